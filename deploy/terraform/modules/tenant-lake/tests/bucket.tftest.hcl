# Runs without a cloud: terraform test

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = {
      name = "eu-central-1"
    }
  }

  mock_data "aws_partition" {
    defaults = {
      partition = "aws"
    }
  }

  mock_data "aws_caller_identity" {
    defaults = {
      account_id = "123456789012"
    }
  }

  mock_data "aws_iam_policy_document" {
    defaults = {
      json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}"
    }
  }

  mock_resource "aws_iam_role" {
    defaults = {
      arn = "arn:aws:iam::123456789012:role/firn-acme"
    }
  }

  mock_resource "aws_kms_key" {
    defaults = {
      arn = "arn:aws:kms:eu-central-1:123456789012:key/made"
    }
  }
}

variables {
  tenant_id           = "acme"
  region              = "eu-central-1"
  bucket_name         = "example-lake-acme"
  data_classification = ["GDPR", "PII"]
  tags                = { cost_center = "42" }
}

run "a_bucket_is_closed_encrypted_and_tagged" {
  assert {
    condition = (
      aws_s3_bucket_public_access_block.lake.block_public_acls
      && aws_s3_bucket_public_access_block.lake.block_public_policy
      && aws_s3_bucket_public_access_block.lake.ignore_public_acls
      && aws_s3_bucket_public_access_block.lake.restrict_public_buckets
    )
    error_message = "The public must be kept out in all four ways."
  }

  assert {
    condition = aws_s3_bucket.lake.tags == tomap({
      cost_center         = "42"
      data_classification = "GDPR PII"
      managed_by          = "firn"
      tenant_id           = "acme"
    })
    error_message = "The bucket's tags are not what was asked for."
  }

  assert {
    condition     = [for rule in aws_s3_bucket_server_side_encryption_configuration.lake.rule : rule.apply_server_side_encryption_by_default[0].sse_algorithm] == ["AES256"]
    error_message = "Without a key, S3's own encrypt."
  }

  assert {
    condition     = toset([for object in aws_s3_object.layer : object.key]) == toset(["bronze/", "silver/", "gold/"])
    error_message = "Each layer has a folder."
  }

  assert {
    condition     = length(data.aws_iam_policy_document.bucket.statement) == 1
    error_message = "Without endpoints and roles, the policy asks for TLS alone."
  }

  assert {
    condition     = output.role_arn == null && output.warehouse == "s3://example-lake-acme"
    error_message = "No role was asked for."
  }
}

run "endpoints_and_roles_are_the_only_way_in" {
  variables {
    vpc_endpoint_ids  = ["vpce-1", "vpce-2"]
    vpc_ids           = ["vpc-1"]
    allowed_role_arns = ["arn:aws:iam::123456789012:role/firn"]
    role_name         = "firn-acme"
    trusted_role_arns = ["arn:aws:iam::123456789012:role/firn"]
    folder            = "firn/"
  }

  assert {
    condition     = [for statement in data.aws_iam_policy_document.bucket.statement : statement.sid] == ["TlsOnly", "VpcEndpointsOnly", "VpcsOnly", "RolesOnly"]
    error_message = "The policy lacks a statement."
  }

  assert {
    condition = toset(one(data.aws_iam_policy_document.bucket.statement[3].condition[*]).values) == toset([
      "arn:aws:iam::123456789012:role/firn",
      "arn:aws:iam::123456789012:role/firn-acme",
    ])
    error_message = "The server's role and the clients' reach the data, and no other."
  }

  assert {
    condition     = output.warehouse == "s3://example-lake-acme/firn"
    error_message = "The warehouse is the folder."
  }
}

run "a_key_of_its_own_encrypts_the_bucket" {
  variables {
    create_kms_key = true
  }

  assert {
    condition     = one(aws_kms_key.lake[*].enable_key_rotation) && [for rule in aws_s3_bucket_server_side_encryption_configuration.lake.rule : rule.apply_server_side_encryption_by_default[0].sse_algorithm] == ["aws:kms"]
    error_message = "The key must rotate and be the bucket's."
  }
}

run "a_name_that_firn_refuses_is_refused" {
  command = plan

  variables {
    tenant_id = "../acme"
  }

  expect_failures = [var.tenant_id]
}

run "two_keys_are_one_too_many" {
  command = plan

  variables {
    create_kms_key = true
    kms_key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/x"
  }

  expect_failures = [var.create_kms_key]
}

run "another_region_is_refused" {
  command = plan

  variables {
    region = "us-west-2"
  }

  expect_failures = [aws_s3_bucket.lake]
}

run "a_role_that_nobody_may_assume_is_refused" {
  command = plan

  variables {
    role_name = "firn-acme"
  }

  expect_failures = [aws_iam_role.clients]
}
