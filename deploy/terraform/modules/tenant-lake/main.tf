# A tenant's lake: what `firn tenant provision` makes, and beside it the key and the role that it can't make itself.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  bucket_arn  = "arn:${data.aws_partition.current.partition}:s3:::${var.bucket_name}"
  kms_key_arn = var.create_kms_key ? aws_kms_key.lake[0].arn : var.kms_key_arn
  role_arn    = var.role_name == null ? null : "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role/${var.role_name}"

  # The folders themselves hold nothing, and whoever provisions may come another way than through the endpoints.
  layers      = toset(["bronze", "silver", "gold"])
  folder_arns = [for layer in local.layers : "${local.bucket_arn}/${var.folder}${layer}/"]

  # Refusing more than data would lock out who may repair a policy.
  data_actions = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:ListBucket*"]

  roles = length(var.allowed_role_arns) == 0 ? [] : distinct(concat(
    var.allowed_role_arns,
    local.role_arn == null ? [] : [local.role_arn],
  ))

  tags = merge(
    var.tags,
    { managed_by = "firn", tenant_id = var.tenant_id },
    length(var.data_classification) == 0 ? {} : { data_classification = join(" ", var.data_classification) },
  )
}

resource "aws_s3_bucket" "lake" {
  bucket = var.bucket_name
  tags   = local.tags

  lifecycle {
    precondition {
      condition     = data.aws_region.current.name == var.region
      error_message = "The provider is of another region than the tenant."
    }
  }
}

resource "aws_s3_bucket_public_access_block" "lake" {
  bucket = aws_s3_bucket.lake.id

  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  rule {
    bucket_key_enabled = local.kms_key_arn == null ? null : true

    apply_server_side_encryption_by_default {
      sse_algorithm     = local.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = local.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "lake" {
  bucket = aws_s3_bucket.lake.id

  rule {
    id     = "abort-unfinished-uploads"
    status = "Enabled"

    filter {
      prefix = ""
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "expire-deleted-versions"
    status = "Enabled"

    filter {
      prefix = ""
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
}

resource "aws_s3_object" "layer" {
  for_each = local.layers

  bucket  = aws_s3_bucket.lake.id
  key     = "${var.folder}${each.key}/"
  content = ""

  # The bucket's own tags say whose it is.
  tags = {}
}

data "aws_iam_policy_document" "bucket" {
  dynamic "statement" {
    for_each = var.require_tls ? [true] : []

    content {
      sid       = "TlsOnly"
      effect    = "Deny"
      actions   = ["s3:*"]
      resources = [local.bucket_arn, "${local.bucket_arn}/*"]

      principals {
        type        = "*"
        identifiers = ["*"]
      }

      condition {
        test     = "Bool"
        variable = "aws:SecureTransport"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.vpc_endpoint_ids) == 0 ? [] : [true]

    content {
      sid           = "VpcEndpointsOnly"
      effect        = "Deny"
      actions       = local.data_actions
      not_resources = local.folder_arns

      principals {
        type        = "*"
        identifiers = ["*"]
      }

      condition {
        test     = "StringNotEquals"
        variable = "aws:SourceVpce"
        values   = var.vpc_endpoint_ids
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.vpc_ids) == 0 ? [] : [true]

    content {
      sid           = "VpcsOnly"
      effect        = "Deny"
      actions       = local.data_actions
      not_resources = local.folder_arns

      principals {
        type        = "*"
        identifiers = ["*"]
      }

      condition {
        test     = "StringNotEquals"
        variable = "aws:SourceVpc"
        values   = var.vpc_ids
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.roles) == 0 ? [] : [true]

    content {
      sid           = "RolesOnly"
      effect        = "Deny"
      actions       = local.data_actions
      not_resources = local.folder_arns

      principals {
        type        = "*"
        identifiers = ["*"]
      }

      condition {
        test     = "ArnNotEquals"
        variable = "aws:PrincipalArn"
        values   = local.roles
      }
    }
  }
}

resource "aws_s3_bucket_policy" "lake" {
  count = var.require_tls || length(var.vpc_endpoint_ids) + length(var.vpc_ids) + length(local.roles) > 0 ? 1 : 0

  bucket = aws_s3_bucket.lake.id
  policy = data.aws_iam_policy_document.bucket.json

  # Both change who may reach the bucket, which S3 refuses to do at once; and the policy must not keep the folders out.
  depends_on = [aws_s3_bucket_public_access_block.lake, aws_s3_object.layer]
}

resource "aws_kms_key" "lake" {
  count = var.create_kms_key ? 1 : 0

  description         = "Lake of the tenant ${var.tenant_id}"
  enable_key_rotation = true
  tags                = local.tags
}
