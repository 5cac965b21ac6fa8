# --- where ------------------------------------------------------------------------------------------------------------

variable "project" {
  description = "The Google Cloud project's id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is a project id: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of everything that has one."
  type        = string
  default     = "asia-northeast3"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is like asia-northeast3."
  }
}

variable "zone" {
  description = "Zone of the machines. It must have the GPU: `gcloud compute accelerator-types list` tells."
  type        = string
  default     = "asia-northeast3-b"

  validation {
    condition     = startswith(var.zone, "${var.region}-")
    error_message = "zone must lie in region."
  }
}

variable "name" {
  description = "Prefix of all names."
  type        = string
  default     = "deskterior"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name is 3 to 20 lower-case letters, digits and hyphens."
  }
}

# --- what runs --------------------------------------------------------------------------------------------------------

variable "image" {
  description = "The container image, by digest (or by a tag that is never moved)."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9./_-]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image is HOST/PATH@sha256:DIGEST, or HOST/PATH:TAG with a tag other than latest: a roll-back needs a name that stays."
  }
}

variable "machine" {
  description = "l4 (g2-standard-4), t4 (n1-standard-4 with a T4) or cpu (e2-standard-2, the cheap one)."
  type        = string
  default     = "l4"

  validation {
    condition     = contains(["l4", "t4", "cpu"], var.machine)
    error_message = "machine is l4, t4 or cpu."
  }
}

variable "database" {
  description = "postgres (Cloud SQL) or sqlite (a file on a disk of its own: one machine). Null: sqlite for cpu, otherwise postgres."
  type        = string
  default     = null

  validation {
    condition     = var.database == null || contains(["postgres", "sqlite"], coalesce(var.database, "postgres"))
    error_message = "database is postgres or sqlite."
  }
}

variable "instances" {
  description = "How many machines. More than one needs postgres, and a GPU quota of as many."
  type        = number
  default     = 1

  validation {
    condition     = var.instances >= 1 && var.instances <= 10 && floor(var.instances) == var.instances
    error_message = "instances is a whole number from 1 to 10."
  }
}

variable "surge" {
  description = "Machines that a roll-out may add for its time. 0 replaces in place, which a GPU quota of 1 forces: minutes without service."
  type        = number
  default     = 0

  validation {
    condition     = var.surge >= 0 && var.surge <= 10 && floor(var.surge) == var.surge
    error_message = "surge is a whole number from 0 to 10."
  }
}

variable "gpu_image" {
  description = "Image of a GPU machine: driver, Docker and NVIDIA's container toolkit must be in it."
  type        = string
  default     = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"

  validation {
    condition     = can(regex("^projects/[a-z0-9-]+/global/images/family/[a-z0-9-]+$", var.gpu_image))
    error_message = "gpu_image is projects/PROJECT/global/images/family/FAMILY."
  }
}

variable "cpu_image" {
  description = "Image of a machine without a GPU: Docker must be in it."
  type        = string
  default     = "projects/cos-cloud/global/images/family/cos-stable"

  validation {
    condition     = can(regex("^projects/[a-z0-9-]+/global/images/family/[a-z0-9-]+$", var.cpu_image))
    error_message = "cpu_image is projects/PROJECT/global/images/family/FAMILY."
  }
}

variable "database_tier" {
  description = "Cloud SQL's machine type. Each API process may hold 23 connections, and each of them takes some MB of its memory."
  type        = string
  default     = "db-custom-1-3840"

  validation {
    condition     = can(regex("^db-(f1-micro|g1-small|custom-[0-9]+-[0-9]+)$", var.database_tier))
    error_message = "database_tier is db-f1-micro, db-g1-small or db-custom-CPUS-MEGABYTES."
  }
}

variable "database_highly_available" {
  description = "A standby of the database in another zone, at twice the price."
  type        = bool
  default     = false
}

# --- the service ------------------------------------------------------------------------------------------------------

variable "domain" {
  description = "The name that clients reach the service by. Its A record must be the output `address`."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain is a host name, like api.example.com."
  }
}

variable "photo_hosts" {
  description = "Hosts that photos may come from: PHOTO_ALLOWED_HOSTS."
  type        = list(string)

  validation {
    condition     = length(var.photo_hosts) > 0 && alltrue([for host in var.photo_hosts : can(regex("^[a-z0-9.-]+\\.[a-z]{2,}$", host))])
    error_message = "photo_hosts is at least one public host name, without a scheme: in production an empty list allows none."
  }
}

variable "s3_bucket" {
  description = "Bucket of the pictures, at AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.s3_bucket))
    error_message = "s3_bucket is a bucket's name."
  }
}

variable "aws_region" {
  description = "Region of the bucket."
  type        = string
  default     = "ap-northeast-2"
}

variable "settings" {
  description = "Further settings of docs/settings.md, by name; they win over those made here. No secrets: they come from Secret Manager."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name, value in var.settings : can(regex("^[A-Z][A-Z0-9_]*$", name)) && !strcontains(value, "\n")])
    error_message = "settings has names in capitals and values of one line."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), local.secret_settings)) == 0
    error_message = "settings has a secret: put it into Secret Manager instead (RUNBOOK.md)."
  }
}

# --- watching ---------------------------------------------------------------------------------------------------------

variable "alert_email" {
  description = "Where alerts go. Empty: they are shown in the console alone."
  type        = string
  default     = ""
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the database."
  type        = bool
  default     = true
}
