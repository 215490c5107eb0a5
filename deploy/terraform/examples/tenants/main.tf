# Lakes of several tenants in one region. The server's configuration that goes with them:
#
#   [server]
#   region = "eu-central-1"
#   [storage]
#   warehouse = "s3://example-lake-{tenant}"
#   region = "eu-central-1"
#   role_arn = "arn:aws:iam::123456789012:role/firn-{tenant}"

terraform {
  required_version = ">= 1.7"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Region of the lakes."
  type        = string
  default     = "eu-central-1"
}

variable "server_role_arn" {
  description = "Role that the Firn server runs as."
  type        = string
}

variable "tenants" {
  description = "Tenants by name."

  type = map(object({
    data_classification = optional(list(string), [])
    vpc_endpoint_ids    = optional(list(string), [])
    vpc_ids             = optional(list(string), [])
    tags                = optional(map(string), {})
  }))

  default = {
    acme = {
      data_classification = ["GDPR"]
      tags                = { cost_center = "4711" }
    }
    globex = {}
  }
}

module "lake" {
  source   = "../../modules/tenant-lake"
  for_each = var.tenants

  tenant_id           = each.key
  region              = var.region
  bucket_name         = "example-lake-${each.key}"
  data_classification = each.value.data_classification
  vpc_endpoint_ids    = each.value.vpc_endpoint_ids
  vpc_ids             = each.value.vpc_ids
  tags                = each.value.tags

  role_name         = "firn-${each.key}"
  trusted_role_arns = [var.server_role_arn]
  allowed_role_arns = [var.server_role_arn]
}

output "warehouses" {
  description = "Root of each tenant's tables."
  value       = { for name, lake in module.lake : name => lake.warehouse }
}
