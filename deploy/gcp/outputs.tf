output "address" {
  description = "Point the domain's A record here; the certificate is made within an hour after."
  value       = google_compute_global_address.public.address
}

output "url" {
  description = "Where clients reach the service."
  value       = "https://${var.domain}"
}

output "repository" {
  description = "Push images here."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "secrets" {
  description = "Each secret setting, and the secret that its value goes into."
  value       = { for name, secret in google_secret_manager_secret.setting : name => secret.secret_id }
}

output "service_account" {
  description = "Who the machines are."
  value       = google_service_account.machine.email
}

output "database_url_shape" {
  description = "DATABASE_URL, but for USER and PASSWORD; null with sqlite."
  value       = local.sqlite ? null : "postgresql://USER:PASSWORD@${google_sql_database_instance.main[0].private_ip_address}:5432/${google_sql_database.main[0].name}?sslmode=verify-ca&sslrootcert=/run/secrets/database-ca.pem"
}

output "group" {
  description = "The managed instance group, for gcloud."
  value       = "${google_compute_instance_group_manager.main.name} --zone=${var.zone}"
}
