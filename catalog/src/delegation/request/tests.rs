#![allow(clippy::unwrap_used)]

use super::*;
use crate::delegation::TableFiles;

const TABLE: &str = "s3://lake/acme/ns/t";
const HTTP: &str = "http://127.0.0.1:9000";

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> SignRequest {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
    SignRequest {
        region: "eu-central-1".to_owned(),
        uri: format!("{HTTP}{path}"),
        method: method.to_owned(),
        headers: headers.collect(),
        body: None,
        provider: None,
    }
}

fn judged(request: &SignRequest, access: Access) -> Result<Judged, String> {
    let s3 = S3Config { endpoint: Some(HTTP.to_owned()), path_style: true, ..S3Config::default() };
    let grant = Grant {
        tenant: "acme".to_owned(),
        principal: "alice".to_owned(),
        access,
        files: TableFiles::below(TABLE),
    };
    let judged = judge(request, &s3, "eu-central-1").map_err(|error| error.to_string())?;
    judged.check(&grant).map_err(|error| error.to_string())?;
    Ok(judged)
}

#[test]
fn what_readers_and_writers_do_is_signed_with_the_least_access() {
    for (method, path, access) in [
        ("GET", "/lake/acme/ns/t/data/1.parquet", Access::Read),
        ("HEAD", "/lake/acme/ns/t/data/1.parquet?partNumber=1", Access::Read),
        ("GET", "/lake?list-type=2&prefix=acme%2Fns%2Ft%2Fdata&delimiter=%2F", Access::Read),
        ("GET", "/lake/?list-type=2&prefix=acme/ns/t/", Access::Read),
        ("PUT", "/lake/acme/ns/t/data/1.parquet?x-id=PutObject", Access::Write),
        ("POST", "/lake/acme/ns/t/data/1.parquet?uploads", Access::Write),
        ("PUT", "/lake/acme/ns/t/data/1.parquet?partNumber=1&uploadId=u", Access::Write),
        ("POST", "/lake/acme/ns/t/data/1.parquet?uploadId=u", Access::Write),
        ("GET", "/lake/acme/ns/t/data/1.parquet?uploadId=u", Access::Write),
        ("DELETE", "/lake/acme/ns/t/data/1.parquet?uploadId=u", Access::Write),
        ("DELETE", "/lake/acme/ns/t/data/1.parquet", Access::Maintain),
    ] {
        let request = request(method, path, &[]);
        assert_eq!(judged(&request, Access::Maintain).unwrap().access, access, "{method} {path}");
        assert_eq!(judged(&request, Access::Read).is_ok(), access == Access::Read, "{method} {path}");
        assert_eq!(judged(&request, Access::Write).is_ok(), access <= Access::Write, "{method} {path}");
    }
}

#[test]
fn other_objects_are_not_signed() {
    for path in [
        "/lake/acme/ns/t2/data/1.parquet",
        "/lake/acme/ns/t",
        "/lake/acme/ns/t/",
        "/lake/acme/ns/other/1",
        "/lake/other/ns/t/1",
        "/lake2/acme/ns/t/1",
        "/lake//acme/ns/t/1",
        "/lake/acme/ns/t/../u/1",
        "/lake/acme/ns/t/%2e%2e/u/1",
        "/lake/acme/ns/t/%252e%252e/u/1",
        "/lake/acme/ns/t/x%2f..%2f..%2fu/1",
        "/lake/acme/ns/t/%5c..%5cu/1",
        "/lake/acme/ns/t/a%00b",
        "/lake/acme/ns/t/%ff",
        "/acme/ns/t/1",
        "/",
        "",
    ] {
        for method in ["GET", "PUT"] {
            assert!(judged(&request(method, path, &[]), Access::Maintain).is_err(), "{method} {path}");
        }
    }
}

#[test]
fn sub_resources_and_whole_buckets_are_not_signed() {
    for (method, path) in [
        ("GET", "/lake/acme/ns/t/1?acl"),
        ("PUT", "/lake/acme/ns/t/1?acl"),
        ("PUT", "/lake/acme/ns/t/1?tagging"),
        ("PUT", "/lake/acme/ns/t/1?retention"),
        ("GET", "/lake/acme/ns/t/1?versionId=1"),
        ("DELETE", "/lake/acme/ns/t/1?versionId=1"),
        ("PUT", "/lake/acme/ns/t/1?partNumber=1"),
        ("POST", "/lake/acme/ns/t/1?select&select-type=2"),
        ("POST", "/lake/acme/ns/t/1?restore"),
        ("POST", "/lake/acme/ns/t/1"),
        ("OPTIONS", "/lake/acme/ns/t/1"),
        ("PATCH", "/lake/acme/ns/t/1"),
        ("GET", "/lake?policy"),
        ("PUT", "/lake?policy"),
        ("DELETE", "/lake"),
        ("PUT", "/lake"),
        ("GET", "/lake?versions&prefix=acme/ns/t/"),
        ("GET", "/lake?uploads&prefix=acme/ns/t/"),
        ("GET", "/lake?list-type=2"),
        ("GET", "/lake?list-type=2&prefix="),
        ("GET", "/lake?list-type=2&prefix=acme/ns/t"),
        ("GET", "/lake?list-type=2&prefix=acme/ns/t2/"),
        ("GET", "/lake?list-type=2&prefix=acme/ns/t/../t2/"),
        ("GET", "/lake?list-type=2&prefix=acme/ns/t/&policy"),
        ("GET", "/lake?list-type=2&prefix=acme/ns/t/&prefix=other/"),
        ("GET", "/lake?prefix=acme/ns/t/"),
        ("GET", "/lake2?list-type=2&prefix=acme/ns/t/"),
    ] {
        assert!(judged(&request(method, path, &[]), Access::Maintain).is_err(), "{method} {path}");
    }
}

#[test]
fn copies_come_from_the_table_alone() {
    let copy = |source: &str| {
        let headers = [("X-Amz-Copy-Source", source)];
        judged(&request("PUT", "/lake/acme/ns/t/copy", &headers), Access::Write)
    };
    assert!(copy("lake/acme/ns/t/data/1").is_ok());
    assert!(copy("/lake/acme/ns/t/data%2F1").is_ok());
    for source in [
        "lake/acme/ns/t2/1",
        "/lake/other/ns/t/1",
        "lake2/acme/ns/t/1",
        "lake/acme/ns/t/../t2/1",
        "lake/acme/ns/t/%2e%2e/t2/1",
        "lake/acme/ns/t/1?versionId=2",
        "arn:aws:s3:::lake/acme/ns/t/1",
        "lake",
        "",
    ] {
        assert!(copy(source).is_err(), "{source}");
    }
    let get = request("GET", "/lake/acme/ns/t/1", &[("x-amz-copy-source", "lake/acme/ns/t/2")]);
    assert!(judged(&get, Access::Maintain).is_err());
    let part = [("x-amz-copy-source", "lake/other/ns/t/1")];
    let part = request("PUT", "/lake/acme/ns/t/1?partNumber=1&uploadId=u", &part);
    assert!(judged(&part, Access::Maintain).is_err(), "parts are copied, too");
}

#[test]
fn headers_that_change_who_may_what_are_not_signed() {
    for name in [
        "x-amz-acl",
        "X-Amz-Grant-Read",
        "x-amz-object-lock-mode",
        "x-amz-bypass-governance-retention",
        "x-amz-website-redirect-location",
        "x-amz-tagging",
        "x-amz-security-token",
    ] {
        let put = request("PUT", "/lake/acme/ns/t/1", &[(name, "x")]);
        assert!(judged(&put, Access::Maintain).unwrap_err().contains(name), "{name}");
    }
    let usual =
        [("x-amz-checksum-crc32", "AAAA"), ("X-Amz-Sdk-Checksum-Algorithm", "CRC32"), ("Range", "bytes=0-1")];
    assert!(judged(&request("PUT", "/lake/acme/ns/t/1", &usual), Access::Write).is_ok());
}

#[test]
fn several_objects_are_deleted_only_as_the_signed_body_says() {
    let delete = |body: Option<&str>| {
        let request = SignRequest { body: body.map(str::to_owned), ..request("POST", "/lake?delete", &[]) };
        judged(&request, Access::Maintain)
    };
    let object = |key: &str| format!("<Object><Key>{key}</Key></Object>");
    let body = |objects: &str| {
        format!(
            "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}<Quiet>true</Quiet></Delete>"
        )
    };
    let two = body(&(object("acme/ns/t/1") + &object("acme/ns/t/2")));
    assert!(delete(Some(&two)).unwrap().body_matters);
    for refused in [
        None,
        Some(String::new()),
        Some(body(&(object("acme/ns/t/1") + &object("other/1")))),
        Some(body("<Object><Key>acme/ns/t/1</Key><VersionId>1</VersionId></Object>")),
        Some(body("<Object><Key>acme/ns/t/1</Key><Key>other/1</Key></Object>")),
        Some(body("<o:Object><o:Key>other/1</o:Key></o:Object><Other/>")),
        Some(body(&object("acme/ns/t/../../../other/1"))),
    ] {
        assert!(delete(refused.as_deref()).is_err(), "{refused:?}");
    }
}

#[test]
fn only_the_storages_own_address_and_region_pass() {
    let at = |uri: &str, s3: &S3Config| {
        let request = SignRequest { uri: uri.to_owned(), ..request("GET", "", &[]) };
        judge(&request, s3, "eu-central-1").map(|judged| judged.objects[0].to_string())
    };
    let object = "s3://lake/acme/ns/t/1";
    let aws = S3Config::default();
    for uri in [
        "https://lake.s3.eu-central-1.amazonaws.com/acme/ns/t/1",
        "https://s3.eu-central-1.amazonaws.com/lake/acme/ns/t/1",
        "https://s3.eu-central-1.amazonaws.com:443/lake/acme/ns/t/1",
        "https://lake.s3.dualstack.eu-central-1.amazonaws.com/acme/ns/t/1",
    ] {
        assert_eq!(at(uri, &aws).unwrap(), object, "{uri}");
    }
    let own = |path_style| S3Config {
        endpoint: Some("http://s3.lan:9000/".to_owned()),
        path_style,
        ..S3Config::default()
    };
    assert_eq!(at("http://s3.lan:9000/lake/acme/ns/t/1", &own(true)).unwrap(), object);
    assert_eq!(at("http://LAKE.s3.lan:9000/acme/ns/t/1", &own(false)).unwrap(), object);
    for (uri, s3) in [
        ("http://lake.s3.lan:9000/acme/ns/t/1", own(true)),
        ("http://s3.lan:9000/lake/acme/ns/t/1", own(false)),
        ("http://s3.lan:9001/lake/acme/ns/t/1", own(true)),
        ("https://s3.lan:9000/lake/acme/ns/t/1", own(true)),
        ("http://user@s3.lan:9000/lake/acme/ns/t/1", own(true)),
        ("/lake/acme/ns/t/1", own(true)),
        ("http://lake.s3.eu-central-1.amazonaws.com/acme/ns/t/1", aws.clone()),
        ("https://lake.s3.us-west-2.amazonaws.com/acme/ns/t/1", aws.clone()),
        ("https://lakes3.eu-central-1.amazonaws.com/acme/ns/t/1", aws.clone()),
        ("https://iam.amazonaws.com/lake/acme/ns/t/1", aws),
    ] {
        assert!(at(uri, &s3).is_err(), "{uri}");
    }
    let elsewhere =
        SignRequest { region: "us-east-1".to_owned(), ..request("GET", "/lake/acme/ns/t/1", &[]) };
    assert!(judged(&elsewhere, Access::Read).unwrap_err().contains("eu-central-1"));
}

#[test]
fn a_path_is_signed_in_the_one_form_that_servers_check() {
    let seen =
        judged(&request("GET", "/lake/acme/ns/t/day=2026-11-22/a+b%7e%2Fc%20d.parquet", &[]), Access::Read);
    assert_eq!(seen.unwrap().uri, format!("{HTTP}/lake/acme/ns/t/day%3D2026-11-22/a%2Bb~/c%20d.parquet"));
}
