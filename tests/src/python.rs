//! Python clients in a virtual environment with pinned packages, made once per version of the requirements.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};

use crate::cache;

const SPARK_ICEBERG: &str = "spark/iceberg-spark-runtime-4.1_2.13-1.11.0.jar";
const ICEBERG_S3: &str = "spark/iceberg-aws-bundle-1.11.0.jar";

/// Held while an environment is made.
static MAKING: Mutex<()> = Mutex::new(());

/// The folder of a command that a requirements file brings.
pub(crate) fn commands(requirements: &str) -> Result<PathBuf> {
    let python = interpreter(&Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(requirements))?;
    Ok(python.parent().context("an interpreter lies in a folder")?.to_owned())
}

/// Runs `tests/python/SCRIPT` with arguments and variables, and answers the JSON that it printed last.
pub fn python(script: &str, args: &[&str], env: &BTreeMap<String, String>) -> Result<serde_json::Value> {
    run_script("requirements.txt", script, args, env)
}

/// The same with Spark and its Iceberg runtime.
pub fn spark(script: &str, args: &[&str], env: &BTreeMap<String, String>) -> Result<serde_json::Value> {
    let mut env = env.clone();
    env.insert("JAVA_HOME".to_owned(), installed("java-spark")?);
    env.insert("FIRN_SPARK_ICEBERG".to_owned(), installed(SPARK_ICEBERG)?);
    run_script("requirements-spark.txt", script, args, &env)
}

/// The same with Confluent's Kafka client.
pub fn confluent(script: &str, args: &[&str]) -> Result<serde_json::Value> {
    run_script("requirements-kafka.txt", script, args, &BTreeMap::new())
}

/// The same with a library that makes OCSF events.
pub fn ocsf(script: &str, args: &[&str]) -> Result<serde_json::Value> {
    run_script("requirements-ocsf.txt", script, args, &BTreeMap::new())
}

/// The same, with Iceberg's runtime and its client of S3 as the script's arguments.
pub fn spark_on_s3(script: &str, env: &BTreeMap<String, String>) -> Result<serde_json::Value> {
    let jars = [installed(SPARK_ICEBERG)?, installed(ICEBERG_S3)?];
    spark(script, &jars.each_ref().map(String::as_str), env)
}

fn installed(path: &str) -> Result<String> {
    Ok(cache::require(path)?.display().to_string())
}

fn run_script(
    requirements: &str,
    script: &str,
    args: &[&str],
    env: &BTreeMap<String, String>,
) -> Result<serde_json::Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let output = Command::new(interpreter(&folder.join(requirements))?)
        .arg(folder.join(script))
        .args(args)
        .envs(env)
        .output()
        .with_context(|| format!("running {script}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{script} ended with {}\n{stdout}\n{stderr}", output.status);
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{script} printed {stdout}"))
}

/// The interpreter of the environment. A half-made one lacks the mark and is made again.
fn interpreter(requirements: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(requirements)?.hash(&mut hasher);
    // Tests run side by side, and the first ones find nothing made.
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = crate::cache_dir().join(format!("python-{:016x}", hasher.finish()));
    let made = environment.join("made");
    if !made.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))
            .context("no virtual environment: install python3 and python3-venv")?;
        run(Command::new(environment.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(requirements))?;
        std::fs::write(&made, "")?;
    }
    Ok(environment.join("bin/python"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
