# A network of its own. Machines have no public address: clients come by the load balancer, people by IAP, and what the
# service calls (OpenAI, Naver, S3, photos) is reached by NAT.

resource "google_compute_network" "main" {
  name                    = var.name
  auto_create_subnetworks = false

  depends_on = [google_project_service.needed]
}

resource "google_compute_subnetwork" "main" {
  name                     = var.name
  network                  = google_compute_network.main.id
  region                   = var.region
  ip_cidr_range            = "10.10.0.0/24"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

resource "google_compute_router" "main" {
  name    = var.name
  network = google_compute_network.main.id
  region  = var.region
}

resource "google_compute_router_nat" "main" {
  name                               = var.name
  router                             = google_compute_router.main.name
  region                             = var.region
  nat_ip_allocate_option             = "AUTO_ONLY"
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"

  # Each call to an outside service is a connection; the default of 64 ports a machine is too few to one address.
  min_ports_per_vm = 2048

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}

# The service, from Google's health checks and load balancers alone.
resource "google_compute_firewall" "balancer" {
  name                    = "${var.name}-balancer"
  network                 = google_compute_network.main.id
  direction               = "INGRESS"
  source_ranges           = local.balancer_ranges
  target_service_accounts = [google_service_account.machine.email]

  allow {
    protocol = "tcp"
    ports    = ["8080"]
  }
}

# SSH, through the Identity-Aware Proxy alone.
resource "google_compute_firewall" "ssh" {
  name                    = "${var.name}-ssh"
  network                 = google_compute_network.main.id
  direction               = "INGRESS"
  source_ranges           = ["35.235.240.0/20"]
  target_service_accounts = [google_service_account.machine.email]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
}
