//! `firn lineage`: from a table's version to the bronze snapshots and log positions it came from.

use anyhow::{Result, bail};
use firn_catalog_client::iceberg::TableIdent;
use firn_compactor::{Ancestry, lineage};
use firn_table::{FileIo, StorageConfig};

use crate::{connection::ConnectionArgs, duration, failure::usage, output};

/// Arguments of `firn lineage`.
#[derive(clap::Args)]
pub(crate) struct LineageArgs {
    /// The table, such as gold.compliance
    table: String,
    /// Branch, tag, hash, or Nessie's reference syntax: the version of that state
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn lineage`.
pub(crate) async fn run(args: &LineageArgs) -> Result<()> {
    let Some((namespace, name)) = args.table.split_once('.') else {
        let name = &args.table;
        return Err(usage(format!(
            "'{name}' is no table name: write it with its namespace, as in gold.compliance"
        )));
    };
    let client = args.connection.connect().await?.lake_client()?;
    let file_io = FileIo::new(StorageConfig::default());
    let table = TableIdent::new(namespace, name);
    let Some(found) = lineage(&client, &file_io, &args.reference, &table).await? else {
        bail!("there is no table {} on {}", args.table, args.reference);
    };
    if args.json {
        return output::json(&found);
    }
    let mut lines = Vec::new();
    tell(&found, "", &mut lines);
    lines.iter().try_for_each(|line| output::line(line))
}

fn tell(ancestry: &Ancestry, indent: &str, lines: &mut Vec<String>) {
    let made = ancestry.made_at_ms.map(|at| format!(", made {}", duration::ago(at))).unwrap_or_default();
    let run = ancestry.run.as_ref().map(|run| format!(" by run {run}")).unwrap_or_default();
    lines.push(format!("{indent}{} at {}{made}{run}", ancestry.table, ancestry.version));
    let deeper = format!("{indent}  ");
    for (partition, offset) in &ancestry.positions {
        lines.push(format!("{deeper}log {partition}: all records before offset {offset}"));
    }
    for input in &ancestry.inputs {
        tell(input, &deeper, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_is_told_from_the_table_down_to_the_log() {
        let of = |table: &str, inputs| Ancestry {
            table: table.to_owned(),
            version: "7".to_owned(),
            made_at_ms: None,
            run: None,
            positions: [("topic.0".to_owned(), "12".to_owned())].into(),
            inputs,
        };
        let mut gold = of("gold.a", vec![of("bronze.b", Vec::new())]);
        gold.positions.clear();
        let mut lines = Vec::new();
        tell(&gold, "", &mut lines);
        let told = ["gold.a at 7", "  bronze.b at 7", "    log topic.0: all records before offset 12"];
        assert_eq!(lines, told);
    }
}
