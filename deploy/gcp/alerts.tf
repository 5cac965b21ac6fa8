# What somebody should look at. What to do then: RUNBOOK.md, by the alerts' names.

locals {
  runbook  = "See deploy/gcp/RUNBOOK.md, section \"When an alert comes\"."
  channels = [for channel in google_monitoring_notification_channel.email : channel.id]
}

resource "google_monitoring_notification_channel" "email" {
  count = var.alert_email == "" ? 0 : 1

  display_name = "${var.name}: e-mail"
  type         = "email"

  labels = {
    email_address = var.alert_email
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_uptime_check_config" "health" {
  display_name = "${var.name}: /health"
  timeout      = "10s"
  period       = "60s"

  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }

  monitored_resource {
    type = "uptime_url"

    labels = {
      project_id = var.project
      host       = var.domain
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "away" {
  display_name          = "${var.name}: not reachable"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "/health has failed for 5 minutes"

    condition_threshold {
      filter          = "metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND resource.type=\"uptime_url\" AND metric.labels.check_id=\"${google_monitoring_uptime_check_config.health.uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "300s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
      }
    }
  }

  documentation {
    content = local.runbook
  }
}

resource "google_monitoring_alert_policy" "healed" {
  display_name          = "${var.name}: machine replaced"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "Autohealing has recreated a machine"

    condition_matched_log {
      filter = "log_id(\"cloudaudit.googleapis.com/system_event\") AND protoPayload.methodName=\"compute.instances.repair.recreateInstance\" AND protoPayload.resourceName:\"${var.name}-\""
    }
  }

  alert_strategy {
    notification_rate_limit {
      period = "1800s"
    }
  }

  documentation {
    content = local.runbook
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "errors" {
  display_name          = "${var.name}: server errors"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "More than 5 answers of 5xx in each of 3 minutes"

    condition_threshold {
      filter          = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND resource.type=\"https_lb_rule\" AND resource.labels.url_map_name=\"${google_compute_url_map.main.name}\" AND metric.labels.response_code_class=\"500\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "180s"

      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = local.runbook
  }
}

resource "google_monitoring_alert_policy" "not_started" {
  display_name          = "${var.name}: service does not start"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "A machine said why the service does not start"

    condition_matched_log {
      filter = "resource.type=\"gce_instance\" AND (\"Deskterior does not start\" OR \"deskterior: cannot\") AND NOT protoPayload.methodName:*"
    }
  }

  alert_strategy {
    notification_rate_limit {
      period = "1800s"
    }
  }

  documentation {
    content = local.runbook
  }

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "database_full" {
  count = local.sqlite ? 0 : 1

  display_name          = "${var.name}: database fills up"
  combiner              = "OR"
  notification_channels = local.channels

  conditions {
    display_name = "The disk has been over 85 % full for 15 minutes"

    condition_threshold {
      filter          = "metric.type=\"cloudsql.googleapis.com/database/disk/utilization\" AND resource.type=\"cloudsql_database\" AND resource.labels.database_id=\"${var.project}:${google_sql_database_instance.main[0].name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0.85
      duration        = "900s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MEAN"
      }
    }
  }

  documentation {
    content = local.runbook
  }
}
