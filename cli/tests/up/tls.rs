//! `firn up` with a certificate, and its clients on the same machine and elsewhere.

use std::{fs, path::Path, time::Duration};

use firn_tests::{Authority, Certificate, until};
use serde_json::Value;

use crate::server::{Server, firn, stderr_of, stdout_of};

/// Settings in the data directory that name these files.
fn configure(data: &Path, shown: &Certificate, ca: &Path) {
    fs::create_dir_all(data).unwrap();
    let file = |path: &Path| format!("'file:{}'", path.display());
    let (certificate, key, ca) = (file(&shown.certificate), file(&shown.key), file(ca));
    let text = format!("[tls]\ncertificate = {certificate}\nkey = {key}\nca = {ca}\n");
    fs::write(data.join("firn.toml"), text).unwrap();
}

#[tokio::test]
async fn server_with_a_certificate_is_found_by_its_clients_and_takes_a_new_one_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    let (first, second) = (Authority::new().unwrap(), Authority::new().unwrap());
    let shown = first.issue("up", &["IP:127.0.0.1"]).unwrap();
    configure(&data, &shown, &first.file());
    let server = Server::start_trusted(&data, &[first.file(), second.file()]).await;
    assert!(server.banner.contains("curl --cacert \"$FIRN_CA\" -X POST"), "{}", server.banner);
    assert_eq!(server.get("/health/ready", None).await.status(), 200);

    let env: Value = serde_json::from_str(&stdout_of(firn(&data, &["env", "--json"]))).unwrap();
    assert_eq!(
        (&env["FIRN_URL"], &env["FIRN_CA"]),
        (&server.url.as_str().into(), &first.file().to_str().unwrap().into())
    );
    assert!(stdout_of(firn(&data, &["tenant", "ls"])).contains("default"));
    let record = serde_json::json!({"host_id": "h", "os_type": "linux"});
    let upload = server.post("/v1/tenants/default/inventory", env["FIRN_TOKEN"].as_str().unwrap(), &record);
    assert_eq!(upload.await.status(), 202);
    // The services of the process reach the catalog with TLS, too.
    until("the record is in bronze", Duration::from_secs(60), async || {
        let answer = firn(&data, &["sql", "select host_id from bronze.inventory", "--format", "json"]);
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        if text.contains("\"h\"") { Ok(()) } else { Err(text) }
    })
    .await
    .unwrap();
    assert!(stdout_of(firn(&data, &["health", "--url", &server.url])).contains("ready"));
    let refused = stderr_of(firn(&elsewhere, &["health", "--url", &server.url]), 1);
    assert!(refused.contains("--ca") && refused.contains(&server.url), "{refused}");
    let ca = first.file();
    let told = ["health", "--url", &server.url, "--ca", ca.to_str().unwrap()];
    assert!(stdout_of(firn(&elsewhere, &told)).contains("ready"));

    // Another authority's certificate: who trusts the first alone is out as soon as it is shown.
    shown.replace_with(&second.issue("next", &["IP:127.0.0.1"]).unwrap()).unwrap();
    server.hang_up();
    until("the new certificate is shown", Duration::from_secs(60), async || {
        match firn(&elsewhere, &told).status.code() {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();
    assert_eq!(server.get("/health/ready", None).await.status(), 200, "it goes on, by the new certificate");
    server.stop();
}

#[test]
fn certificate_that_can_not_be_used_is_status_2_and_names_key_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new().unwrap();
    let (one, other) = (authority.issue("a", &["DNS:x"]).unwrap(), authority.issue("b", &["DNS:x"]).unwrap());
    let mixed = Certificate { certificate: one.certificate, key: other.key };
    configure(folder.path(), &mixed, &authority.file());
    for command in ["up", "doctor"] {
        let status = if command == "up" { 2 } else { 1 };
        let output = firn(folder.path(), &[command]);
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains("tls.key") && said.contains("b.key"), "{said}");
    }
}
