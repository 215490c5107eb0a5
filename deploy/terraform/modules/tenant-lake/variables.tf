variable "tenant_id" {
  description = "Name of the tenant in Firn."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,62}$", var.tenant_id))
    error_message = "A tenant's name has 1 to 63 of a-z, 0-9 and '-', and begins with a letter or digit."
  }
}

variable "region" {
  description = "Region of the bucket. The provider must be of the same one."
  type        = string
}

variable "bucket_name" {
  description = "Name of the bucket: storage.warehouse of the server, with the tenant's name for {tenant}."
  type        = string
}

variable "folder" {
  description = "Folder of the lake in the bucket, with a slash at its end; empty for the whole bucket."
  type        = string
  default     = ""

  validation {
    condition     = var.folder == "" || can(regex("^[^/].*/$", var.folder))
    error_message = "A folder ends with a slash and doesn't begin with one."
  }
}

variable "data_classification" {
  description = "Classes of the data, such as GDPR."
  type        = list(string)
  default     = []
}

variable "vpc_endpoint_ids" {
  description = "VPC endpoints through which alone the data is reached; empty: any way."
  type        = list(string)
  default     = []
}

variable "vpc_ids" {
  description = "VPCs from which alone the data is reached, through whichever endpoint; empty: from anywhere."
  type        = list(string)
  default     = []
}

variable "require_tls" {
  description = "Refuse requests that don't come over TLS. Only servers that aren't AWS's do without."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the bucket; without one and without create_kms_key, S3's own keys do."
  type        = string
  default     = null
}

variable "create_kms_key" {
  description = "Make a KMS key for this tenant alone. Give its ARN, an output, to the server as storage.kms_key_arn."
  type        = bool
  default     = false

  validation {
    condition     = !(var.create_kms_key && var.kms_key_arn != null)
    error_message = "Set kms_key_arn or create_kms_key, not both."
  }
}

variable "allowed_role_arns" {
  description = "Roles that alone reach the data; empty: whoever the account lets. The role that this module makes is added if there are others."
  type        = list(string)
  default     = []
}

variable "role_name" {
  description = "Name of the role that the server assumes to give clients keys (storage.role_arn); null: make none."
  type        = string
  default     = null
}

variable "trusted_role_arns" {
  description = "Who may assume that role: the server's own role. Needed with role_name."
  type        = list(string)
  default     = []
}

variable "oidc_provider_arn" {
  description = "OIDC provider of a Kubernetes cluster whose service account may assume the role, too."
  type        = string
  default     = null
}

variable "service_account" {
  description = "That service account, as NAMESPACE:NAME."
  type        = string
  default     = null

  validation {
    condition     = (var.service_account == null) == (var.oidc_provider_arn == null)
    error_message = "Set oidc_provider_arn and service_account, or neither."
  }
}

variable "tags" {
  description = "More tags."
  type        = map(string)
  default     = {}
}
