# Who the machines are, and what they may do: read their own secrets and images, write logs and metrics. Nothing else.
# The database is reached by its private address with a password, so that no role of Cloud SQL is needed.

resource "google_service_account" "machine" {
  account_id   = "${var.name}-machine"
  display_name = "Machines of ${var.name}"

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "machine" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])

  project = var.project
  role    = each.value
  member  = google_service_account.machine.member
}

resource "google_artifact_registry_repository_iam_member" "machine" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.machine.member
}

resource "google_secret_manager_secret_iam_member" "machine" {
  for_each = google_secret_manager_secret.setting

  secret_id = each.value.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.machine.member
}
