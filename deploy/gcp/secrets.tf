# Places for secrets. Their values are put in by hand (RUNBOOK.md): Terraform never sees them, so neither does its state.
# A machine reads the newest enabled version when the service starts. One without a version is left unset.

locals {
  secret_settings = toset(concat(
    [
      "API_KEYS",
      "AWS_ACCESS_KEY_ID",
      "AWS_SECRET_ACCESS_KEY",
      "CALLBACK_SECRET",
      "NAVER_CLIENT_ID",
      "NAVER_CLIENT_SECRET",
      "OPENAI_API_KEY",
      "STORAGE_SECRET",
    ],
    local.sqlite ? [] : ["DATABASE_URL"],
  ))
}

resource "google_secret_manager_secret" "setting" {
  for_each = local.secret_settings

  secret_id = "${var.name}-${lower(replace(each.value, "_", "-"))}"

  labels = {
    setting = lower(each.value)
  }

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.needed]
}
