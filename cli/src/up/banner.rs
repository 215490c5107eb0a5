//! What `firn up` says when it is ready.

use anyhow::Result;
use firn_runtime::tls::TlsConfig;

use crate::{connection::FIRST_TENANT, data_dir::LockedDataDir, output, server::Server, tls};

/// Prints where everything is, and lines to paste.
pub(super) fn print(server: &Server, locked: &LockedDataDir, first_token: Option<&str>) -> Result<()> {
    let code = server.codes.issue();
    let dir = locked.dir.root().display().to_string();
    let curl = curl(server.tls.config());
    output::line(&text(server.public_url.trim_end_matches('/'), &dir, &code, first_token, &curl))
}

/// `curl`, with the files of which `firn env` says where they are.
fn curl(config: &TlsConfig) -> String {
    let flag = |(name, _)| match name {
        "FIRN_CA" => " --cacert \"$FIRN_CA\"",
        "FIRN_CLIENT_CERT" => " --cert \"$FIRN_CLIENT_CERT\"",
        _ => " --key \"$FIRN_CLIENT_KEY\"",
    };
    format!("curl{}", tls::variables(config).into_iter().map(flag).collect::<String>())
}

fn text(url: &str, dir: &str, code: &str, first_token: Option<&str>, curl: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let tenant = FIRST_TENANT;
    let token = match first_token {
        Some(token) => format!(
            "\n  Operator token (shown once, valid 30 days, kept in keys/operator.token):\n  {token}\n"
        ),
        None => String::new(),
    };
    format!(
        r#"Firn {version} is ready.

  Console        {url}/console?token={code}   (the link works once)
  Iceberg REST   {url}/iceberg   (warehouse: {tenant})
  Nessie REST    {url}/nessie/{tenant}/api/v2
  Gateway        {url}/v1/tenants/{tenant}/inventory
  API            {url}/openapi.json
  Data           {dir}
{token}
In another shell, first:

  eval "$(firn env --data-dir '{dir}')"

then with curl:

  {curl} -X POST "$FIRN_URL/v1/tenants/$FIRN_TENANT/inventory" -H "Authorization: Bearer $FIRN_TOKEN" -H 'Content-Type: application/json' -d '{{"host_id": "my-computer", "disk_encrypted": false}}'

with PyIceberg (pip install 'pyiceberg[pyarrow]'):

  python3 -c "import os; from pyiceberg.catalog.rest import RestCatalog; e = os.environ; print(RestCatalog('firn', uri=e['FIRN_URL'] + '/iceberg', warehouse=e['FIRN_TENANT'], token=e['FIRN_TOKEN']).load_table('silver.device').scan().to_arrow())"

with DuckDB:

  duckdb -c "INSTALL iceberg; LOAD iceberg; CREATE SECRET firn (TYPE iceberg, TOKEN '$FIRN_TOKEN'); ATTACH '$FIRN_TENANT' AS lake (TYPE iceberg, ENDPOINT '$FIRN_URL/iceberg', SECRET firn); SELECT * FROM lake.silver.device LIMIT 5"

with Spark:

  spark-sql --packages org.apache.iceberg:iceberg-spark-runtime-4.0_2.13:1.10.0 --conf spark.sql.catalog.firn=org.apache.iceberg.spark.SparkCatalog --conf spark.sql.catalog.firn.type=rest --conf spark.sql.catalog.firn.uri="$FIRN_URL/iceberg" --conf spark.sql.catalog.firn.warehouse="$FIRN_TENANT" --conf spark.sql.catalog.firn.token="$FIRN_TOKEN" -e 'SELECT * FROM firn.silver.device LIMIT 5'
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_token_is_shown_only_if_new() {
        let curl = curl(&TlsConfig::default());
        let text = |token| text("http://127.0.0.1:1", "/d", "code", token, &curl);
        assert!(text(Some("secret-token")).contains("secret-token"));
        assert!(!text(None).contains("Operator token"));
        assert!(text(None).contains("http://127.0.0.1:1/console?token=code"));
        assert!(text(None).contains("\n  curl -X POST"));
    }
}
