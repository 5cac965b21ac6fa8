# What the other files share.

locals {
  gpu    = var.machine != "cpu"
  sqlite = coalesce(var.database, var.machine == "cpu" ? "sqlite" : "postgres") == "sqlite"

  machine_type = {
    l4  = "g2-standard-4" # the L4 comes with the machine type
    t4  = "n1-standard-4"
    cpu = "e2-standard-2"
  }[var.machine]

  # What a cold start takes until /health/machine is 200: boot, the image's pull, the model. Younger machines are not healed.
  cold_start_s = local.gpu ? 900 : 420

  # The service answers after 330 s at the latest, and holds an answer for WAIT_MAX_S.
  answer_within_s = 345
  held_for_s      = 120
  drain_s         = local.held_for_s + 30
  container_uid   = 1034 # BentoML's images run as this user

  # Each API process, which runs jobs too, may hold 23 connections to Postgres (docs/scaling.md), and in a roll-out there are
  # more machines. Google's own number for a small database is used up by four or five of them.
  connections = max(100, (var.instances + var.surge) * tonumber(local.settings.WORKERS) * 23 + 20)

  # Where Google's load balancers and health checks come from.
  balancer_ranges = ["130.211.0.0/22", "35.191.0.0/16"]

  settings = merge(
    {
      ENV                 = "production"
      PORT                = "8080"
      WORKERS             = local.gpu ? "3" : "2"
      RUNNERS             = "process"
      PUBLIC_BASE_URL     = "https://${var.domain}"
      PHOTO_ALLOWED_HOSTS = join(",", var.photo_hosts)
      STORAGE             = "s3"
      S3_BUCKET           = var.s3_bucket
      AWS_REGION          = var.aws_region
      WAIT_MAX_S          = tostring(local.held_for_s)
    },
    local.sqlite ? { DATABASE_URL = "sqlite:////data/jobs.sqlite" } : {},
    var.settings,
  )
}

resource "google_project_service" "needed" {
  for_each = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "compute.googleapis.com",
      "iam.googleapis.com",
      "iap.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "secretmanager.googleapis.com",
    ],
    local.sqlite ? [] : ["servicenetworking.googleapis.com", "sqladmin.googleapis.com"],
  ))

  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the service."

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-the-old"
    action = "DELETE"

    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.needed]
}
