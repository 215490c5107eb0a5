//! Which part of the storage is whose.

use super::Location;

/// What stands for the tenant's name in a bucket's name.
const TENANT: &str = "{tenant}";

/// Where tenants' files lie. Roots of two tenants never contain each other.
pub(super) enum Warehouse {
    /// One folder that holds a folder for each.
    Shared(Location),
    /// A bucket for each: the location's text, with [`TENANT`] once in the bucket's name.
    Buckets(String),
}

impl Warehouse {
    /// Parses `file:///…`, `s3://bucket/prefix` or `s3://lake-{tenant}/prefix`; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let locate = |text: &str| text.parse::<Location>().map_err(|error| error.to_string());
        if !text.contains(TENANT) {
            return Ok(Self::Shared(locate(text)?));
        }
        let sample = locate(&text.replace(TENANT, "tenant"))?;
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bucket = rest.split('/').next().unwrap_or_default();
        if sample.bucket().is_none() || !bucket.contains(TENANT) || text.matches(TENANT).count() != 1 {
            return Err(format!("{TENANT} may stand once, in the name of an S3 bucket"));
        }
        Ok(Self::Buckets(text.to_owned()))
    }

    /// Root of a tenant's files.
    pub(super) fn root(&self, tenant: &str) -> Location {
        match self {
            Self::Shared(root) => root.join(tenant),
            Self::Buckets(text) => text
                .replace(TENANT, tenant)
                .parse()
                .expect("a name changes nothing about the form, which was parsed"),
        }
    }

    /// The folder that holds all tenants'; none if each has a bucket.
    pub(super) fn shared_root(&self) -> Option<&Location> {
        match self {
            Self::Shared(root) => Some(root),
            Self::Buckets(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn tenants_have_a_folder_or_a_bucket_each() {
        for (text, root) in [
            ("file:///w", "file:///w/acme"),
            ("s3://lake/firn/", "s3://lake/firn/acme"),
            ("s3://{tenant}-lake/firn", "s3://acme-lake/firn"),
            ("s3://lake-{tenant}", "s3://lake-acme/"),
        ] {
            assert_eq!(Warehouse::parse(text).unwrap().root("acme").to_string(), root);
        }
    }

    #[test]
    fn a_placeholder_elsewhere_is_refused() {
        for text in [
            "s3://lake/{tenant}",
            "file:///{tenant}",
            "s3://{tenant}-{tenant}",
            "s3://lake-{tenant}/{tenant}",
            "x",
        ] {
            assert!(Warehouse::parse(text).is_err(), "{text}");
        }
    }
}
