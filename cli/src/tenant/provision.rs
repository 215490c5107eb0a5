//! `firn tenant provision`.

use anyhow::Result;
use firn_catalog_client::{Provisioning, TerraformModule};
use serde_json::Value;

use crate::{connection::ConnectionArgs, output};

/// Where the module lies, as Terraform writes the address of a folder in a repository.
const MODULE: &str = "./modules/tenant-lake";

/// Arguments of `firn tenant provision`.
#[derive(clap::Args)]
pub(crate) struct ProvisionArgs {
    /// The tenant
    name: String,
    /// Only say what would change
    #[arg(long)]
    plan: bool,
    /// Change nothing; print a call of the Terraform module that makes the same
    #[arg(long, conflicts_with_all = ["plan", "json"])]
    terraform: bool,
    /// Address of that module (default: the folder of Firn's repository)
    #[arg(long, value_name = "SOURCE", default_value = MODULE, requires = "terraform")]
    module: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn tenant provision`.
pub(crate) async fn run(args: &ProvisionArgs) -> Result<()> {
    let client = args.connection.connect().await?.catalog()?.tenant(&args.name);
    let outcome = client.provision(args.plan || args.terraform).await?;
    if args.terraform {
        return output::line(&module_call(&outcome.terraform, &args.module));
    }
    if args.json {
        return output::json(&outcome);
    }
    print(&outcome)
}

fn print(outcome: &Provisioning) -> Result<()> {
    let rows = outcome.steps.iter();
    let rows = rows.map(|step| vec![step.change.clone(), step.what.clone(), step.detail.clone()]).collect();
    output::rows(&["change", "what", "detail"], rows, "nothing")?;
    let of =
        |kinds: &[&str]| outcome.steps.iter().filter(|step| kinds.contains(&step.change.as_str())).count();
    let (open, done) = (of(&["create", "change"]), of(&["created", "changed"]));
    let refused = match of(&["refused"]) {
        0 => String::new(),
        count => format!("; {count} refused by the server, which the bucket goes without"),
    };
    output::line(&match outcome.planned {
        true if open == 0 => format!("\n{}: nothing to change{refused}", outcome.bucket),
        true => format!("\n{}: {open} to change{refused}; run it without --plan", outcome.bucket),
        false => format!("\n{}: {done} changed{refused}", outcome.bucket),
    })
}

/// The module's call. Only what differs from the module's defaults.
fn module_call(module: &TerraformModule, source: &str) -> String {
    let mut lines = vec![("source".to_owned(), quoted(source))];
    let mut set = |name: &str, value: String| lines.push((name.to_owned(), value));
    set("tenant_id", quoted(&module.tenant_id));
    set("region", quoted(&module.region));
    set("bucket_name", quoted(&module.bucket_name));
    if !module.folder.is_empty() {
        set("folder", quoted(&module.folder));
    }
    if let Some(key) = &module.kms_key_arn {
        set("kms_key_arn", quoted(key));
    }
    if !module.require_tls {
        set("require_tls", "false".to_owned());
    }
    for (name, texts) in [
        ("data_classification", &module.data_classification),
        ("vpc_endpoint_ids", &module.vpc_endpoint_ids),
        ("vpc_ids", &module.vpc_ids),
        ("allowed_role_arns", &module.allowed_role_arns),
    ] {
        if !texts.is_empty() {
            let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
            set(name, format!("[{}]", texts.join(", ")));
        }
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("  {name:width$} = {value}")).collect();
    if !module.tags.is_empty() {
        let width = module.tags.keys().map(|key| quoted(key).len()).max().unwrap_or_default();
        let tags = module.tags.iter();
        let tags = tags.map(|(key, value)| format!("    {:width$} = {}\n", quoted(key), quoted(value)));
        lines.push(format!("\n  tags = {{\n{}  }}", tags.collect::<String>()));
    }
    format!("module \"lake_{}\" {{\n{}\n}}", module.tenant_id.replace('-', "_"), lines.join("\n"))
}

/// A text as HCL writes it: as JSON does, and nothing in it is a template.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_modules_call_is_formatted_as_terraform_does() {
        let module = TerraformModule {
            tenant_id: "acme-eu".to_owned(),
            region: "eu-central-1".to_owned(),
            bucket_name: "acme-eu-lake".to_owned(),
            folder: String::new(),
            data_classification: vec!["GDPR".to_owned()],
            vpc_endpoint_ids: vec!["vpce-1".to_owned(), "vpce-2".to_owned()],
            vpc_ids: vec!["vpc-1".to_owned()],
            kms_key_arn: None,
            allowed_role_arns: Vec::new(),
            require_tls: false,
            tags: BTreeMap::from([("team".to_owned(), "${x}".to_owned())]),
        };
        let want = r#"module "lake_acme_eu" {
  source              = "./m"
  tenant_id           = "acme-eu"
  region              = "eu-central-1"
  bucket_name         = "acme-eu-lake"
  require_tls         = false
  data_classification = ["GDPR"]
  vpc_endpoint_ids    = ["vpce-1", "vpce-2"]
  vpc_ids             = ["vpc-1"]

  tags = {
    "team" = "$${x}"
  }
}"#;
        assert_eq!(module_call(&module, "./m"), want);
    }
}
