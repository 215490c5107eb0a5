//! `firn model graph`: which model reads which.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use firn_compactor::{Model, ModelGraph};

use super::{ReadArgs, kind_name, read};
use crate::{console::html::Html, output};

/// Arguments of `firn model graph`.
#[derive(clap::Args)]
pub(crate) struct GraphArgs {
    /// Print an SVG picture
    #[arg(long, conflicts_with = "json")]
    svg: bool,
    #[command(flatten)]
    read: ReadArgs,
}

/// Pixels: a box, and from one box to the next.
const BOX: (usize, usize) = (200, 44);
const STEP: (usize, usize) = (270, 64);
const MARGIN: usize = 16;

pub(super) async fn run(args: &GraphArgs) -> Result<()> {
    let graph = read(&args.read).await?;
    if args.read.json {
        let edges: BTreeMap<_, Vec<_>> = graph
            .models()
            .iter()
            .map(|model| (model.table.to_string(), model.inputs.iter().map(ToString::to_string).collect()))
            .collect();
        return output::json(&edges);
    }
    if args.svg {
        output::line(&svg(&graph))
    } else {
        words(&graph).iter().try_for_each(|line| output::line(line))
    }
}

/// A tree from each source; a table that several tables feed stands below each.
fn words(graph: &ModelGraph) -> Vec<String> {
    let mut lines = Vec::new();
    for source in graph.sources() {
        lines.push(source.to_string());
        add_readers(graph, &source.to_string(), "", &mut lines);
    }
    lines
}

fn readers<'a>(graph: &'a ModelGraph, table: &str) -> Vec<&'a Model> {
    let reads = |model: &&Model| model.inputs.iter().any(|input| input.to_string() == table);
    graph.models().iter().filter(reads).collect()
}

fn add_readers(graph: &ModelGraph, table: &str, indent: &str, lines: &mut Vec<String>) {
    let readers = readers(graph, table);
    for (index, model) in readers.iter().enumerate() {
        let (branch, below) =
            if index + 1 == readers.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let name = model.table.to_string();
        lines.push(format!("{indent}{branch}{name} ({})", kind_name(model.kind)));
        add_readers(graph, &name, &format!("{indent}{below}"), lines);
    }
}

/// Column and row of each table: one column to the right of the last that it reads.
fn places(graph: &ModelGraph) -> BTreeMap<String, (usize, usize)> {
    let mut columns: BTreeMap<String, usize> =
        graph.sources().iter().map(|source| (source.to_string(), 0)).collect();
    let mut order: Vec<String> = columns.keys().cloned().collect();
    for model in graph.models() {
        let inputs = model.inputs.iter().filter_map(|input| columns.get(&input.to_string()));
        let column = inputs.max().map_or(0, |column| column + 1);
        columns.insert(model.table.to_string(), column);
        order.push(model.table.to_string());
    }
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for name in order {
        let column = columns[&name];
        let row = rows.entry(column).or_default();
        places.insert(name, (column, *row));
        *row += 1;
    }
    places
}

fn svg(graph: &ModelGraph) -> String {
    let places = places(graph);
    let corner = |name: &str| {
        let (column, row) = places[name];
        (MARGIN + column * STEP.0, MARGIN + row * STEP.1)
    };
    let size = |of: fn(&(usize, usize)) -> usize, step: usize, length: usize| {
        places.values().map(of).max().unwrap_or_default() * step + length + 2 * MARGIN
    };
    let (width, height) = (size(|place| place.0, STEP.0, BOX.0), size(|place| place.1, STEP.1, BOX.1));
    let mut page = Html::default();
    page.raw(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" role=\"img\" viewBox=\"0 0 ",
    );
    page.text(&format!("{width} {height}")).raw("\"><title>Models and what they read</title>");
    let edges: BTreeSet<_> = graph
        .models()
        .iter()
        .flat_map(|model| model.inputs.iter().map(|input| (input.to_string(), model.table.to_string())))
        .collect();
    for (from, to) in &edges {
        let ((x1, y1), (x2, y2)) = (corner(from), corner(to));
        let (x1, y1, y2) = (x1 + BOX.0, y1 + BOX.1 / 2, y2 + BOX.1 / 2);
        let half = (x1 + x2) / 2;
        page.raw("<path fill=\"none\" stroke=\"#8899aa\" d=\"");
        page.text(&format!("M{x1} {y1} C{half} {y1} {half} {y2} {x2} {y2}")).raw("\"/>");
    }
    let kinds: BTreeMap<_, _> =
        graph.models().iter().map(|model| (model.table.to_string(), kind_name(model.kind))).collect();
    for name in places.keys() {
        let ((x, y), kind) = (corner(name), kinds.get(name));
        let (width, height) = BOX;
        page.raw("<g><rect rx=\"6\" fill=\"#f4f7fa\" stroke=\"#445566\" x=\"").text(&x.to_string());
        page.raw("\" y=\"").text(&y.to_string()).raw("\" width=\"").text(&width.to_string());
        page.raw("\" height=\"").text(&height.to_string()).raw("\"/>");
        let lines = [(18, "13", name.as_str()), (35, "11", kind.map_or("source", String::as_str))];
        for (below, font, text) in lines {
            page.raw("<text font-size=\"").text(font).raw("\" x=\"").text(&(x + 10).to_string());
            page.raw("\" y=\"").text(&(y + below).to_string()).raw("\">").text(text).raw("</text>");
        }
        page.raw("</g>");
    }
    page.raw("</svg>");
    page.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn graph() -> ModelGraph {
        let model = |table: &str, input: &str| {
            let text = format!("-- model: {table}\n-- kind: full\nSELECT * FROM {input}");
            Model::parse("m.sql", &text).unwrap()
        };
        let models = vec![
            model("silver.a", "bronze.x"),
            model("gold.c", "silver.a, silver.b"),
            model("silver.b", "silver.a"),
        ];
        ModelGraph::new(models).unwrap()
    }

    #[test]
    fn words_are_a_tree_and_columns_follow_the_longest_way() {
        let tree = "bronze.x\n└─ silver.a (full)\n   ├─ silver.b (full)\n   │  └─ gold.c (full)\n   └─ gold.c (full)";
        assert_eq!(words(&graph()).join("\n"), tree);
        let places = places(&graph());
        assert_eq!((places["bronze.x"], places["silver.b"], places["gold.c"]), ((0, 0), (2, 0), (3, 0)));
    }

    #[test]
    fn picture_has_a_box_per_table_and_a_line_per_input() {
        let picture = svg(&graph());
        assert_eq!((picture.matches("<rect").count(), picture.matches("<path").count()), (4, 4));
        assert!(picture.contains(">gold.c</text>") && picture.ends_with("</svg>"), "{picture}");
    }
}
