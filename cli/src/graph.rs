//! `firn log --graph`: commits and what they merged, drawn as Git draws them.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use console::{Color, style};
use firn_catalog_client::{
    TenantClient,
    nessie::{LogEntry, NO_ANCESTOR, Reference},
};

use crate::{
    output,
    references::{short, to_seconds},
};

/// Colours of the lanes, from the left.
const COLORS: [Color; 6] =
    [Color::Red, Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::Cyan];

/// Prints the newest `limit` commits that `revision` reaches, by whichever parent.
pub(crate) async fn print(client: &TenantClient, revision: &str, limit: usize) -> Result<()> {
    let commits = newest(client, revision, limit).await?;
    if commits.is_empty() {
        return output::line("no commits");
    }
    let mut names: HashMap<String, Vec<Reference>> = HashMap::new();
    for reference in client.references().await? {
        names.entry(reference.hash().to_owned()).or_default().push(reference);
    }
    let parents = |entry: &LogEntry| -> Vec<String> { parents(entry).map(str::to_owned).collect() };
    let nodes: Vec<(String, Vec<String>)> =
        commits.iter().map(|entry| (hash(entry).to_owned(), parents(entry))).collect();
    for row in draw(&nodes) {
        let art = colored(&row.art);
        match row.commit.and_then(|at| commits.get(at)) {
            Some(entry) => output::line(&format!("{art} {}", text(entry, names.get(hash(entry)))))?,
            None => output::line(&art)?,
        }
    }
    Ok(())
}

/// Newest first: a commit is always later than its parents.
async fn newest(client: &TenantClient, revision: &str, limit: usize) -> Result<Vec<LogEntry>> {
    let mut known: HashMap<String, LogEntry> = HashMap::new();
    let mut waiting: BTreeSet<(String, String)> = BTreeSet::new();
    let mut found = Vec::new();
    let mut wanted = vec![revision.to_owned()];
    loop {
        for start in wanted.drain(..) {
            let entry = match known.get(&start) {
                Some(entry) => Some(entry.clone()),
                None => {
                    let line = client.log(&start, limit, false).await?;
                    let first = line.first().cloned();
                    known.extend(line.into_iter().map(|entry| (hash(&entry).to_owned(), entry)));
                    first
                }
            };
            if let Some(entry) = entry {
                let time = entry.commit_meta.commit_time.clone().unwrap_or_default();
                waiting.insert((time, hash(&entry).to_owned()));
            }
        }
        if found.len() == limit {
            return Ok(found);
        }
        let Some(entry) = waiting.pop_last().and_then(|(_, hash)| known.get(&hash).cloned()) else {
            return Ok(found);
        };
        wanted.extend(parents(&entry).map(str::to_owned));
        found.push(entry);
    }
}

fn hash(entry: &LogEntry) -> &str {
    entry.commit_meta.hash.as_deref().unwrap_or_default()
}

fn parents(entry: &LogEntry) -> impl Iterator<Item = &str> {
    entry.commit_meta.parent_commit_hashes.iter().map(String::as_str).filter(|hash| *hash != NO_ANCESTOR)
}

fn text(entry: &LogEntry, references: Option<&Vec<Reference>>) -> String {
    let meta = &entry.commit_meta;
    let names = references.into_iter().flatten().map(|reference| match reference {
        Reference::Tag { name, .. } => style(format!("tag: {}", output::plain(name))).yellow().to_string(),
        reference => style(output::plain(reference.name())).green().to_string(),
    });
    let names: Vec<String> = names.collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let message = output::plain(meta.message.lines().next().unwrap_or_default());
    let author = output::plain(meta.authors.first().or(meta.committer.as_ref()).map_or("", String::as_str));
    let time = meta.commit_time.as_deref().map(to_seconds).unwrap_or_default();
    format!(
        "{}{names} {message} {}",
        style(short(hash(entry))).yellow(),
        style(format!("{author}, {time}")).dim()
    )
}

/// A line of the drawing; that of a commit says which.
#[derive(Debug, PartialEq)]
struct Row {
    art: String,
    commit: Option<usize>,
}

/// Draws commits with their parents, children first.
fn draw(commits: &[(String, Vec<String>)]) -> Vec<Row> {
    // The commit that each lane leads to.
    let mut lanes: Vec<&str> = Vec::new();
    let mut rows = Vec::new();
    for (at, (hash, parents)) in commits.iter().enumerate() {
        let lane = lanes.iter().position(|awaited| awaited == hash).unwrap_or_else(|| {
            lanes.push(hash);
            lanes.len() - 1
        });
        while let Some(other) =
            lanes.iter().rposition(|awaited| awaited == hash).filter(|other| *other > lane)
        {
            rows.push(joined(lanes.len(), lane, other));
            lanes.remove(other);
        }
        let art = (0..lanes.len()).map(|k| if k == lane { "* " } else { "| " }).collect();
        rows.push(Row { art, commit: Some(at) });
        match parents.split_first() {
            Some((first, merged)) => {
                if let Some(awaited) = lanes.get_mut(lane) {
                    *awaited = first;
                }
                for parent in merged {
                    rows.push(parted(lanes.len(), lane));
                    lanes.insert(lane + 1, parent);
                }
            }
            None => {
                lanes.remove(lane);
                if lane < lanes.len() {
                    let art = "| ".repeat(lane) + &" /".repeat(lanes.len() - lane);
                    rows.push(Row { art, commit: None });
                }
            }
        }
    }
    rows
}

/// Lane `from` joins lane `into`, which is left of it; lanes to its right move up.
fn joined(lanes: usize, into: usize, from: usize) -> Row {
    let art = "| ".repeat(into) + "|" + &"_|".repeat(from - into - 1) + "/" + &" /".repeat(lanes - from - 1);
    Row { art, commit: None }
}

/// A lane begins right of `lane`; those that were there make room.
fn parted(lanes: usize, lane: usize) -> Row {
    let art = "| ".repeat(lane) + "|\\" + &" \\".repeat(lanes - lane - 1);
    Row { art, commit: None }
}

fn colored(art: &str) -> String {
    let color = |(at, character): (usize, char)| match COLORS.get(at / 2 % COLORS.len()) {
        Some(color) if !matches!(character, ' ' | '*') => style(character).fg(*color).to_string(),
        _ => character.to_string(),
    };
    art.trim_end().chars().enumerate().map(color).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(commits: &[(&str, &[&str])]) -> String {
        let own = |(hash, parents): &(&str, &[&str])| {
            ((*hash).to_owned(), parents.iter().map(|parent| (*parent).to_owned()).collect())
        };
        let commits: Vec<(String, Vec<String>)> = commits.iter().map(own).collect();
        let line = |row: Row| match row.commit {
            Some(at) => format!("\n{}{}", row.art, commits[at].0),
            None => format!("\n{}", row.art.trim_end()),
        };
        draw(&commits).into_iter().map(line).collect()
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(drawn(&[("c", &["b"]), ("b", &["a"]), ("a", &[])]), "\n* c\n* b\n* a");
    }

    #[test]
    fn a_merged_branch_parts_and_joins() {
        let commits: &[(&str, &[&str])] =
            &[("m", &["b", "d"]), ("d", &["c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])];
        assert_eq!(drawn(commits), "\n* m\n|\\\n| * d\n* | b\n| * c\n|/\n* a");
    }

    #[test]
    fn merges_within_merges_keep_their_lanes() {
        let commits: &[(&str, &[&str])] =
            &[("m", &["a", "n"]), ("n", &["x", "y"]), ("y", &["a"]), ("x", &["a"]), ("a", &[])];
        assert_eq!(drawn(commits), "\n* m\n|\\\n| * n\n| |\\\n| | * y\n| * | x\n|_|/\n|/\n* a");
    }

    #[test]
    fn a_second_beginning_ends_its_lane() {
        let commits: &[(&str, &[&str])] = &[("m", &["b", "x"]), ("b", &[]), ("x", &[])];
        assert_eq!(drawn(commits), "\n* m\n|\\\n* | b\n /\n* x");
    }
}
