# What all lakes have in common: where Terraform's state is, and the provider, of the region that the first folder names.

locals {
  region = split("/", path_relative_to_include())[0]
}

remote_state {
  backend = "s3"

  generate = {
    path      = "backend.tf"
    if_exists = "overwrite_terragrunt"
  }

  config = {
    bucket       = "example-terraform-state"
    key          = "${path_relative_to_include()}/terraform.tfstate"
    region       = "eu-central-1"
    encrypt      = true
    use_lockfile = true
  }
}

generate "provider" {
  path      = "provider.tf"
  if_exists = "overwrite_terragrunt"
  contents  = "provider \"aws\" {\n  region = \"${local.region}\"\n}\n"
}

inputs = {
  region = local.region
}
