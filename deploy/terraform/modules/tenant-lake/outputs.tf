output "bucket_name" {
  description = "The bucket."
  value       = aws_s3_bucket.lake.bucket
}

output "warehouse" {
  description = "Root of the tenant's tables."
  value       = trimsuffix("s3://${aws_s3_bucket.lake.bucket}/${var.folder}", "/")
}

output "role_arn" {
  description = "Role whose keys clients get: storage.role_arn of the server, with {tenant} for the tenant's name."
  value       = one(aws_iam_role.clients[*].arn)
}

output "kms_key_arn" {
  description = "Key of the bucket, if it isn't S3's own: storage.kms_key_arn of the server."
  value       = local.kms_key_arn
}
