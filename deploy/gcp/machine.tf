# The machines: a template, and a group that keeps `instances` of them healthy.
#
# A GPU machine runs Google's Deep Learning VM image: driver, Docker and NVIDIA's container toolkit are in it, so that
# nothing is compiled or downloaded at boot and `docker run --gpus all` works. Container-Optimized OS is smaller, but
# brings no toolkit (`--gpus all` fails there; device files would be passed one by one), and fetches its driver at each
# boot. Without a GPU that does not matter, and it is what a cpu machine runs.

locals {
  # Limits by address are of the clients' addresses, which the balancer tells; it adds its own behind them.
  behind_balancer = {
    TRUSTED_PROXIES = join(",", concat(local.balancer_ranges, ["${google_compute_global_address.public.address}/32"]))
  }
}

data "google_compute_image" "boot" {
  # Looked up so that a family that Google has retired stops the plan, and not the machine.
  project = split("/", local.gpu ? var.gpu_image : var.cpu_image)[1]
  family  = basename(local.gpu ? var.gpu_image : var.cpu_image)
}

# Two questions. May this machine be sent requests? The load balancer asks, and asks again soon. Would another machine do
# better? The group asks, and is slower to judge: a runner that has died is back within a minute, a new machine in ten;
# and a database that is away, which fails every machine's /health, is not brought back by replacing them.
resource "google_compute_health_check" "main" {
  name                = var.name
  description         = "The model, the GPU and the job store."
  check_interval_sec  = 10
  timeout_sec         = 5
  healthy_threshold   = 2
  unhealthy_threshold = 3

  http_health_check {
    port         = 8080
    request_path = "/health"
  }

  log_config {
    enable = true
  }

  depends_on = [google_project_service.needed]
}

resource "google_compute_health_check" "machine" {
  name                = "${var.name}-machine"
  description         = "The model and the GPU."
  check_interval_sec  = 10
  timeout_sec         = 5
  healthy_threshold   = 2
  unhealthy_threshold = 10

  http_health_check {
    port         = 8080
    request_path = "/health/machine"
  }

  log_config {
    enable = true
  }

  depends_on = [google_project_service.needed]
}

resource "google_compute_resource_policy" "snapshots" {
  count = local.sqlite ? 1 : 0

  name   = "${var.name}-data"
  region = var.region

  snapshot_schedule_policy {
    schedule {
      hourly_schedule {
        hours_in_cycle = 4
        start_time     = "00:00"
      }
    }

    retention_policy {
      max_retention_days    = 14
      on_source_disk_delete = "KEEP_AUTO_SNAPSHOTS"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_compute_instance_template" "main" {
  name_prefix  = "${var.name}-"
  machine_type = local.machine_type
  region       = var.region

  disk {
    boot         = true
    source_image = data.google_compute_image.boot.self_link
    disk_type    = "pd-balanced"
    disk_size_gb = local.gpu ? 100 : 30
    auto_delete  = true
  }

  dynamic "disk" {
    for_each = local.sqlite ? [1] : []

    content {
      device_name       = "data"
      disk_type         = "pd-balanced"
      disk_size_gb      = 10
      auto_delete       = false
      resource_policies = [google_compute_resource_policy.snapshots[0].id]
    }
  }

  dynamic "guest_accelerator" {
    for_each = var.machine == "t4" ? [1] : []

    content {
      type  = "nvidia-tesla-t4"
      count = 1
    }
  }

  scheduling {
    automatic_restart   = true
    on_host_maintenance = local.gpu ? "TERMINATE" : "MIGRATE" # a machine with a GPU cannot move
  }

  network_interface {
    subnetwork = google_compute_subnetwork.main.id
  }

  service_account {
    email  = google_service_account.machine.email
    scopes = ["cloud-platform"] # what it may do is said by its roles
  }

  shielded_instance_config {
    enable_secure_boot          = !local.gpu # the driver's modules are not signed for it
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # Metadata is no place for secrets: whoever may look at the project reads it. It has their names.
  metadata = {
    block-project-ssh-keys     = "TRUE"
    enable-oslogin             = "TRUE"
    serial-port-logging-enable = "TRUE"
    startup-script             = file("${path.module}/machine/startup.sh")
    deskterior-run             = file("${path.module}/machine/run.sh")
    deskterior-unit            = file("${path.module}/machine/deskterior.service")
    deskterior-image           = var.image
    deskterior-gpu             = local.gpu ? "yes" : "no"
    deskterior-data            = local.sqlite ? "yes" : "no"
    deskterior-uid             = tostring(local.container_uid)
    deskterior-settings        = join("\n", [for name, value in merge(local.behind_balancer, local.settings) : "${name}=${value}"])
    deskterior-secrets         = join("\n", [for name, secret in google_secret_manager_secret.setting : "${name}=${secret.secret_id}"])
    deskterior-database-ca     = local.sqlite ? "" : google_sql_database_instance.main[0].server_ca_cert[0].cert
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = !local.sqlite || var.instances == 1
      error_message = "sqlite is for one machine: set database = \"postgres\", or instances = 1."
    }

    precondition {
      condition     = !local.sqlite || var.surge == 0
      error_message = "sqlite's disk is on one machine at a time: set surge = 0."
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.machine,
    google_compute_router_nat.main,
    google_project_iam_member.machine,
    google_secret_manager_secret_iam_member.machine,
  ]
}

resource "google_compute_instance_group_manager" "main" {
  name               = var.name
  zone               = var.zone
  base_instance_name = var.name
  target_size        = var.instances

  version {
    instance_template = google_compute_instance_template.main.self_link_unique
  }

  named_port {
    name = "http"
    port = 8080
  }

  auto_healing_policies {
    health_check      = google_compute_health_check.machine.id
    initial_delay_sec = local.cold_start_s
  }

  update_policy {
    type                  = "PROACTIVE"
    minimal_action        = "REPLACE"
    replacement_method    = local.sqlite ? "RECREATE" : "SUBSTITUTE" # the disk stays with the machine's name
    max_surge_fixed       = var.surge
    max_unavailable_fixed = var.surge > 0 ? 0 : 1
  }

  dynamic "stateful_disk" {
    for_each = local.sqlite ? [1] : []

    content {
      device_name = "data"
      delete_rule = "NEVER"
    }
  }

  # The secrets may have no values yet: the first machine becomes healthy when they have.
  wait_for_instances = false
}
