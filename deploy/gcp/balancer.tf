# HTTPS from the world to the machines.

resource "google_compute_global_address" "public" {
  name = "${var.name}-public"

  depends_on = [google_project_service.needed]
}

resource "google_compute_managed_ssl_certificate" "main" {
  name = "${var.name}-${substr(sha256(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true
  }

  depends_on = [google_project_service.needed]
}

resource "google_compute_ssl_policy" "main" {
  name            = var.name
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.needed]
}

resource "google_compute_backend_service" "main" {
  name                  = var.name
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTP"
  port_name             = "http"
  health_checks         = [google_compute_health_check.main.id]

  # Longer than the service's own limit, so that whoever waits too long gets the service's answer and not Google's.
  timeout_sec = local.answer_within_s

  # A machine that is taken away goes on with the answers that it holds.
  connection_draining_timeout_sec = local.drain_s

  backend {
    group           = google_compute_instance_group_manager.main.instance_group
    balancing_mode  = "UTILIZATION"
    capacity_scaler = 1
  }

  log_config {
    enable      = true
    sample_rate = 1
  }
}

resource "google_compute_url_map" "main" {
  name            = var.name
  default_service = google_compute_backend_service.main.id

  host_rule {
    hosts        = ["*"]
    path_matcher = "all"
  }

  path_matcher {
    name            = "all"
    default_service = google_compute_backend_service.main.id

    # Figures are for those inside.
    path_rule {
      paths   = ["/metrics", "/app/routers/metrics"]
      service = google_compute_backend_service.main.id

      route_action {
        fault_injection_policy {
          abort {
            http_status = 404
            percentage  = 100
          }
        }
      }
    }
  }
}

resource "google_compute_target_https_proxy" "main" {
  name             = var.name
  url_map          = google_compute_url_map.main.id
  ssl_certificates = [google_compute_managed_ssl_certificate.main.id]
  ssl_policy       = google_compute_ssl_policy.main.id
}

resource "google_compute_global_forwarding_rule" "https" {
  name                  = "${var.name}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.public.id
  target                = google_compute_target_https_proxy.main.id
  port_range            = "443"
}

resource "google_compute_url_map" "to_https" {
  name = "${var.name}-to-https"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "PERMANENT_REDIRECT" # 308: a POST stays a POST
    strip_query            = false
  }

  depends_on = [google_project_service.needed]
}

resource "google_compute_target_http_proxy" "to_https" {
  name    = "${var.name}-to-https"
  url_map = google_compute_url_map.to_https.id
}

resource "google_compute_global_forwarding_rule" "to_https" {
  name                  = "${var.name}-to-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.public.id
  target                = google_compute_target_http_proxy.to_https.id
  port_range            = "80"
}
