# Jobs, what they cost, and the accounts of limits: Postgres, by its private address and with TLS only.
# The user and the password are made by hand (RUNBOOK.md), so that no state holds them.

resource "google_compute_global_address" "services" {
  count = local.sqlite ? 0 : 1

  name          = "${var.name}-services"
  network       = google_compute_network.main.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  count = local.sqlite ? 0 : 1

  network                 = google_compute_network.main.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services[0].name]

  depends_on = [google_project_service.needed]
}

resource "google_sql_database_instance" "main" {
  count = local.sqlite ? 0 : 1

  name                = var.name
  region              = var.region
  database_version    = "POSTGRES_16"
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.database_tier
    edition                     = "ENTERPRISE"
    availability_type           = var.database_highly_available ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = 10
    disk_autoresize             = true
    disk_autoresize_limit       = 100
    deletion_protection_enabled = var.deletion_protection

    location_preference {
      zone = var.zone
    }

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.main.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "18:00" # UTC: 3 in the morning in Seoul
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
      }
    }

    maintenance_window {
      day          = 7
      hour         = 19
      update_track = "stable"
    }

    database_flags {
      name  = "max_connections"
      value = tostring(local.connections)
    }

    # Who came and went, and who waited for whom. Not the statements: they hold what clients sent.
    dynamic "database_flags" {
      for_each = ["log_checkpoints", "log_connections", "log_disconnections", "log_lock_waits"]

      content {
        name  = database_flags.value
        value = "on"
      }
    }

    insights_config {
      query_insights_enabled = true
    }
  }

  depends_on = [google_service_networking_connection.services]
}

resource "google_sql_database" "main" {
  count = local.sqlite ? 0 : 1

  name     = "deskterior"
  instance = google_sql_database_instance.main[0].name
}
