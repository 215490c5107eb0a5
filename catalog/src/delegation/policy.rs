//! The session policy of vended keys: what of a role is left for one table.

use serde_json::{Value, json};

use super::{Access, TableFiles};

/// What a vended key may do. `arn` is the prefix of the cloud's names, such as `arn:aws`; `kms` allows the buckets' key, too,
/// since a session may do only what this policy names.
pub(super) fn session_policy(arn: &str, files: &TableFiles, access: Access, kms: Option<&str>) -> Value {
    let bucket = format!("{arn}:s3:::{}", files.bucket());
    let below = format!("{}/*", files.path());
    let objects = format!("{bucket}/{below}");
    let mut actions = vec!["s3:GetObject"];
    if access >= Access::Write {
        actions.extend(["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]);
    }
    if access >= Access::Maintain {
        actions.push("s3:DeleteObject");
    }
    let mut statements = vec![
        json!({"Effect": "Allow", "Action": actions, "Resource": [objects]}),
        json!({
            "Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [bucket],
            "Condition": {"StringLike": {"s3:prefix": [below]}},
        }),
    ];
    if let Some(key) = kms {
        let actions = ["kms:Decrypt", "kms:GenerateDataKey"];
        statements.push(json!({"Effect": "Allow", "Action": actions, "Resource": [key]}));
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn policy(access: Access) -> Value {
        let files = TableFiles::below("s3://lake/acme/ns/t");
        session_policy("arn:aws", &files, access, None)
    }

    #[test]
    fn a_policy_names_the_table_alone() {
        let policy = policy(Access::Read);
        let [objects, list] = policy["Statement"].as_array().unwrap().as_slice() else { panic!("{policy}") };
        assert_eq!(objects["Resource"], json!(["arn:aws:s3:::lake/acme/ns/t/*"]));
        assert_eq!(objects["Action"], json!(["s3:GetObject"]));
        assert_eq!(list["Resource"], json!(["arn:aws:s3:::lake"]));
        assert_eq!(list["Condition"], json!({"StringLike": {"s3:prefix": ["acme/ns/t/*"]}}));
    }

    #[test]
    fn only_a_maintainer_may_delete() {
        let actions = |access| policy(access)["Statement"][0]["Action"].to_string();
        assert!(
            actions(Access::Write).contains("s3:PutObject") && !actions(Access::Write).contains("Delete")
        );
        assert!(
            !actions(Access::Read).contains("Put") && actions(Access::Maintain).contains("s3:DeleteObject")
        );
    }
}
