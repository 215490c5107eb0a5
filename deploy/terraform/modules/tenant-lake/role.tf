# The role whose temporary keys clients get, cut down to one table each time.

data "aws_iam_policy_document" "trust" {
  count = var.role_name == null ? 0 : 1

  dynamic "statement" {
    for_each = length(var.trusted_role_arns) == 0 ? [] : [true]

    content {
      actions = ["sts:AssumeRole"]

      principals {
        type        = "AWS"
        identifiers = var.trusted_role_arns
      }
    }
  }

  dynamic "statement" {
    for_each = var.oidc_provider_arn == null ? [] : [var.oidc_provider_arn]

    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]

      principals {
        type        = "Federated"
        identifiers = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "${split("oidc-provider/", statement.value)[1]}:sub"
        values   = ["system:serviceaccount:${var.service_account}"]
      }

      condition {
        test     = "StringEquals"
        variable = "${split("oidc-provider/", statement.value)[1]}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

data "aws_iam_policy_document" "role" {
  count = var.role_name == null ? 0 : 1

  statement {
    sid       = "Files"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${local.bucket_arn}/${var.folder}*"]
  }

  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]
  }

  dynamic "statement" {
    for_each = var.create_kms_key || var.kms_key_arn != null ? [true] : []

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [local.kms_key_arn]
    }
  }
}

resource "aws_iam_role" "clients" {
  count = var.role_name == null ? 0 : 1

  name                 = var.role_name
  assume_role_policy   = data.aws_iam_policy_document.trust[0].json
  max_session_duration = 43200
  tags                 = local.tags

  lifecycle {
    precondition {
      condition     = length(var.trusted_role_arns) > 0 || var.oidc_provider_arn != null
      error_message = "Say who may assume the role: trusted_role_arns, or oidc_provider_arn with service_account."
    }
  }
}

resource "aws_iam_role_policy" "clients" {
  count = var.role_name == null ? 0 : 1

  name   = "lake"
  role   = aws_iam_role.clients[0].id
  policy = data.aws_iam_policy_document.role[0].json
}
