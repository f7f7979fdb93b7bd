# The migrations, then the servers. The file works with Terraform and OpenTofu.
terraform {
  required_version = ">= 1.6"
  required_providers {
    helm = {
      source  = "hashicorp/helm"
      version = "~> 3.0"
    }
  }
}

variable "kubeconfig" {
  description = "File that says how to reach the cluster."
  type        = string
  default     = "~/.kube/config"
}

variable "chart" {
  description = "The chart: your copy of it, or its folder."
  type        = string
  default     = "oci://registry.example/charts/temporal-migrations"
}

variable "server_version" {
  description = "Version of Temporal's servers, which determines the schemas."
  type        = string
}

provider "helm" {
  kubernetes = {
    config_path = pathexpand(var.kubeconfig)
  }
}

resource "helm_release" "migrations" {
  name             = "temporal-migrations"
  namespace        = "temporal"
  create_namespace = true
  chart            = var.chart

  # How long Helm waits for the Job, in seconds: longer than activeDeadlineSeconds.
  timeout = 3900

  values = [
    file("${path.module}/values.yaml"),
    yamlencode({ serverVersion = var.server_version }),
  ]
}

resource "helm_release" "temporal" {
  name       = "temporal"
  namespace  = "temporal"
  repository = "https://charts.example/temporal"
  chart      = "temporal"
  version    = "1.6.0"

  # The remaining values are those of ../official-chart/application.yaml.
  values = [yamlencode({ server = { image = { tag = var.server_version } } })]

  depends_on = [helm_release.migrations]
}
