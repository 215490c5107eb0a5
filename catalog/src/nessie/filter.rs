//! Filters of lists: expressions of the Common Expression Language, with Nessie's variables.
//!
//! | list | variables |
//! | --- | --- |
//! | references | `ref` (`name`, `hash`, `type`), `refType`, `refMeta` (with `fetch=ALL`) |
//! | history | `commit` (`hash`, `author`, `committer`, `message`, `commitTime`, `authorTime`, `properties`), `operations` |
//! | entries | `entry` (a key's fields, `contentType`) |
//! | diff | `key` (a key's fields) |
//!
//! A key's fields are `key`, `encodedKey`, `keyElements`, `name`, `namespace` and `namespaceElements`; an operation has
//! them, too, and its `type`.

use cel::{
    Context, Program, Timestamp, Value,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use serde::Serialize;

use super::text;
use crate::{
    CatalogError,
    version::{Commit, Content, Key},
};

/// A longer one was not written by a person.
const MAX_LENGTH: usize = 1_000;
/// The parser calls itself for everything nested, and overflows an ordinary thread's stack within [`MAX_LENGTH`]. Only the
/// pages that are used cost memory.
const PARSER_STACK: usize = 256 << 20;
/// Expressions within expressions.
const MAX_NESTING: u32 = 64;
/// Loops within loops.
const MAX_LOOPS: u32 = 3;
/// Rounds of all loops over one item's operations: a fraction of a second.
const MAX_ROUNDS: usize = 200_000;

/// A filter that was understood.
pub(super) struct Filter {
    program: Program,
    /// How deep its loops are nested.
    loops: u32,
    variables: &'static [&'static str],
}

/// For lists of references.
pub(super) const REFERENCES: &[&str] = &["ref", "refType", "refMeta"];
/// For the commit log.
pub(super) const HISTORY: &[&str] = &["commit", "operations"];
/// For the keys of a state.
pub(super) const ENTRIES: &[&str] = &["entry"];
/// For differences.
pub(super) const DIFF: &[&str] = &["key"];

impl Filter {
    /// Reads a filter that may use these variables.
    pub(super) fn parse(source: &str, variables: &'static [&'static str]) -> Result<Self, CatalogError> {
        if source.len() > MAX_LENGTH {
            return Err(CatalogError::Invalid(format!("'filter' is longer than {MAX_LENGTH} bytes")));
        }
        let failed = |error| CatalogError::Internal(format!("no thread for a filter: {error}"));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(PARSER_STACK);
            let parser =
                thread.spawn_scoped(scope, || Self::understand(source, variables)).map_err(failed)?;
            parser
                .join()
                .unwrap_or_else(|_| Err(CatalogError::Invalid("'filter' can't be parsed".to_owned())))
        })
    }

    /// On the parser's thread; what leaves it is nested so little that any thread can walk it.
    fn understand(source: &str, variables: &'static [&'static str]) -> Result<Self, CatalogError> {
        let program = Program::compile(source)
            .map_err(|error| CatalogError::Invalid(format!("'filter' is no CEL expression: {error}")))?;
        let mut walk = Walk { known: variables.to_vec(), ..Walk::default() };
        walk.visit(program.expression());
        if let Some(unknown) = walk.unknown {
            let known = variables.join(", ");
            return Err(CatalogError::Invalid(format!(
                "'filter' names '{unknown}', which isn't known here: there is {known}"
            )));
        }
        for (what, deepest, most) in
            [("expressions", walk.deepest, MAX_NESTING), ("loops", walk.deepest_loop, MAX_LOOPS)]
        {
            if deepest > most {
                let text = format!("'filter' has {what} nested deeper than {most}: make it simpler");
                return Err(CatalogError::Invalid(text));
            }
        }
        let loops = walk.deepest_loop;
        Ok(Self { program, loops, variables })
    }

    /// Whether it keeps a reference.
    pub(super) fn keeps_reference(&self, reference: &serde_json::Value) -> Result<bool, CatalogError> {
        let mut context = Context::default();
        bind(&mut context, "ref", reference)?;
        bind(&mut context, "refType", &reference["type"])?;
        bind(&mut context, "refMeta", &reference["metadata"])?;
        self.keeps(&context, 0)
    }

    /// Whether it keeps a commit.
    pub(super) fn keeps_commit(&self, commit: &Commit) -> Result<bool, CatalogError> {
        let meta = text::wire_meta(commit);
        let first = |(name, values): (&String, &Vec<String>)| {
            (name.clone(), values.first().cloned().unwrap_or_default())
        };
        let fields = CommitFields {
            hash: commit.hash.to_string(),
            author: meta.authors.first().cloned().unwrap_or_default(),
            committer: meta.committer.unwrap_or_default(),
            message: meta.message,
            commit_time: Timestamp::from(commit.time.fixed_offset()),
            author_time: Timestamp::from(commit.meta.author_time.unwrap_or(commit.time).fixed_offset()),
            properties: commit.meta.properties.iter().map(first).collect(),
        };
        let operations = commit.operations.iter().map(|(key, content)| OperationFields {
            operation: if content.is_some() { "PUT" } else { "DELETE" },
            key: KeyFields::of(key),
        });
        let operations: Vec<_> = operations.collect();
        let mut context = Context::default();
        bind(&mut context, "commit", fields)?;
        bind(&mut context, "operations", &operations)?;
        self.keeps(&context, operations.len())
    }

    /// Whether it keeps a key and what is there.
    pub(super) fn keeps_entry(&self, key: &Key, content: &Content) -> Result<bool, CatalogError> {
        let entry = EntryFields { content_type: content.content_type(), key: KeyFields::of(key) };
        let mut context = Context::default();
        bind(&mut context, "entry", entry)?;
        self.keeps(&context, 0)
    }

    /// Whether it keeps a key.
    pub(super) fn keeps_key(&self, key: &Key) -> Result<bool, CatalogError> {
        let mut context = Context::default();
        bind(&mut context, "key", KeyFields::of(key))?;
        self.keeps(&context, 0)
    }

    fn keeps(&self, context: &Context<'_, '_>, operations: usize) -> Result<bool, CatalogError> {
        if operations.checked_pow(self.loops).is_none_or(|rounds| rounds > MAX_ROUNDS) {
            return Err(CatalogError::Invalid(format!(
                "'filter' has loops nested {} deep, and a commit has {operations} operations: that would take too long",
                self.loops
            )));
        }
        match self.program.execute(context) {
            Ok(Value::Bool(keeps)) => Ok(keeps),
            Ok(_) => Err(CatalogError::Invalid("'filter' is neither true nor false for an item".to_owned())),
            Err(error) => Err(CatalogError::Invalid(format!(
                "'filter' can't be applied to an item: {error}; it has {}",
                self.variables.join(", ")
            ))),
        }
    }
}

fn bind(context: &mut Context<'_, '_>, name: &str, value: impl Serialize) -> Result<(), CatalogError> {
    let wrong = |error| CatalogError::Internal(format!("no CEL value of '{name}': {error}"));
    context.add_variable(name, value).map_err(wrong)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CommitFields {
    hash: String,
    author: String,
    committer: String,
    message: String,
    commit_time: Timestamp,
    author_time: Timestamp,
    properties: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryFields<'a> {
    content_type: &'a str,
    #[serde(flatten)]
    key: KeyFields<'a>,
}

#[derive(Serialize)]
struct OperationFields<'a> {
    #[serde(rename = "type")]
    operation: &'static str,
    #[serde(flatten)]
    key: KeyFields<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyFields<'a> {
    key: String,
    encoded_key: String,
    key_elements: &'a [String],
    name: &'a str,
    namespace: String,
    namespace_elements: &'a [String],
}

impl<'a> KeyFields<'a> {
    fn of(key: &'a Key) -> Self {
        let (name, namespace) = key.0.split_last().map_or(("", [].as_slice()), |(name, rest)| (name, rest));
        Self {
            key: key.0.join("."),
            encoded_key: text::key_text(key),
            key_elements: &key.0,
            name,
            namespace: namespace.join("."),
            namespace_elements: namespace,
        }
    }
}

/// What a walk through an expression finds: how deep it is, and names that nothing binds.
#[derive(Default)]
struct Walk<'a> {
    /// Variables, those of the loops around included.
    known: Vec<&'a str>,
    unknown: Option<&'a str>,
    depth: u32,
    deepest: u32,
    loops: u32,
    deepest_loop: u32,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, expression: &'a IdedExpr) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                // The macros' own begin with '@'.
                if !name.starts_with('@') && !self.known.contains(&name.as_str()) {
                    self.unknown.get_or_insert(name);
                }
            }
            Expr::Call(call) => {
                call.target.iter().for_each(|target| self.visit(target));
                call.args.iter().for_each(|argument| self.visit(argument));
            }
            Expr::Comprehension(inner) => {
                self.visit(&inner.iter_range);
                self.visit(&inner.accu_init);
                let outer = self.known.len();
                self.known.push(&inner.iter_var);
                self.known.extend(inner.iter_var2.as_deref());
                self.known.push(&inner.accu_var);
                self.loops += 1;
                self.deepest_loop = self.deepest_loop.max(self.loops);
                self.visit(&inner.loop_cond);
                self.visit(&inner.loop_step);
                self.loops -= 1;
                self.visit(&inner.result);
                self.known.truncate(outer);
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.visit(element)),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Map(map) => self.visit_entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(value) => self.visit_entries(value.entries.iter().map(|entry| &entry.expr)),
        }
        self.depth -= 1;
    }

    fn visit_entries(&mut self, entries: impl Iterator<Item = &'a EntryExpr>) {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.visit(&field.value),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key);
                    self.visit(&entry.value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(elements: &[&str]) -> Key {
        Key(elements.iter().map(|element| (*element).to_owned()).collect())
    }

    #[test]
    fn a_key_s_fields_are_nessie_s() {
        for (source, kept) in [
            ("key.name == 'orders'", true),
            ("key.namespace == 'sales.eu'", true),
            ("key.namespace.startsWith('sales.')", true),
            ("key.namespaceElements.size() == 2 && key.keyElements[0] == 'sales'", true),
            ("key.key.matches('^sales.*s$')", true),
            ("key.keyElements.exists(element, element == 'us')", false),
            ("'eu' in key.keyElements ? false : true", false),
        ] {
            let filter = Filter::parse(source, DIFF).unwrap();
            assert_eq!(filter.keeps_key(&key(&["sales", "eu", "orders"])).unwrap(), kept, "{source}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said() {
        let refused = |source: &str| {
            let kept = Filter::parse(source, DIFF).and_then(|filter| filter.keeps_key(&key(&["a"])));
            kept.map_or_else(|error| error.to_string(), |kept| kept.to_string())
        };
        for (source, said) in [
            ("key.name ==", "no CEL expression"),
            ("kye.name == 'a'", "'kye', which isn't known here: there is key"),
            ("key.name", "neither true nor false"),
            ("key.nam == 'a'", "can't be applied"),
            (&format!("key.name == '{}'", "a".repeat(MAX_LENGTH)), "longer than"),
            (&format!("{}true{}", "(".repeat(490), ")".repeat(490)), ""),
            (&format!("{}true", "!".repeat(990)), ""),
            (&format!("1 == {}1", "-".repeat(990)), ""),
            (&format!("{}true", "true?true:".repeat(99)), ""),
            (&format!("{}true", "key.".repeat(240)), ""),
            (&format!("{}1 == 1", "1+".repeat(490)), "nested deeper than 64"),
            (&format!("key.name == 'a'{}", " || true".repeat(120)), ""),
            ("[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", "nested deeper"),
        ] {
            let error = refused(source);
            assert!(error.contains(said), "{source}: {error}");
        }
    }

    #[test]
    fn loops_over_many_operations_are_bounded() {
        let filter = Filter::parse("operations.all(a, operations.all(b, a.key != b.name))", HISTORY).unwrap();
        assert!(filter.keeps(&Context::default(), 1_000).unwrap_err().to_string().contains("too long"));
        let filter = Filter::parse("operations.exists(a, a.key == 'x')", HISTORY).unwrap();
        assert_eq!(filter.loops, 1);
    }
}
