include "root" {
  path = find_in_parent_folders("root.hcl")
}

locals {
  environment = read_terragrunt_config(find_in_parent_folders("environment.hcl")).locals
}

terraform {
  source = "git::https://github.com/firn-lakehouse/firn.git//deploy/terraform/modules/tenant-lake?ref=v0.1.0"
}

inputs = {
  tenant_id           = "globex"
  bucket_name         = "example-lake-globex"
  data_classification = []
  vpc_ids             = local.environment.vpc_ids
  vpc_endpoint_ids    = local.environment.vpc_endpoint_ids
  role_name           = "firn-globex"
  trusted_role_arns   = [local.environment.server_role_arn]
  allowed_role_arns   = [local.environment.server_role_arn]
  tags                = { cost_center = "4712" }
}
