# What the tenants of this environment share.

locals {
  server_role_arn  = "arn:aws:iam::123456789012:role/firn-production"
  vpc_ids          = ["vpc-0a1b2c3d4e5f60718"]
  vpc_endpoint_ids = []
}
