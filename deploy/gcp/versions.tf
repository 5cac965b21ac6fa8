terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50.0"
    }
  }

  # The bucket comes with `terraform init -backend-config=bucket=NAME`: RUNBOOK.md. The state holds no secret values.
  backend "gcs" {
    prefix = "deskterior"
  }
}

provider "google" {
  project = var.project
  region  = var.region
  zone    = var.zone

  default_labels = {
    app = var.name
  }
}
