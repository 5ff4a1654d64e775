//! `docs/configuration.md` is made from the rows, and this test says when it is no longer theirs.

use std::fmt::Write;

use super::*;

fn values(row: &Row) -> String {
    match row.bounds {
        Bounds::Any | Bounds::Text | Bounds::ThrottledReplicas => String::new(),
        Bounds::Range(min, i64::MAX) => format!(", from {min}"),
        Bounds::Range(min, max) => format!(", {min} to {max}"),
        Bounds::Ratio => ", 0 to 1".into(),
        Bounds::OneOf(values) => format!(", one of {}", values.join(" ")),
        Bounds::Each(values) => format!(" of {}", values.join(" ")),
        Bounds::Size(_) => ", a size such as 64m".into(),
        Bounds::SizeOrShare(_) => ", a size such as 512m or a share such as 25%".into(),
    }
}

fn line(row: &Row) -> String {
    let kind = format!("{:?}", row.kind).to_lowercase();
    let default = row
        .default
        .map(|value| format!("`{value}`"))
        .filter(|value| value != "``")
        .unwrap_or_default();
    let note = row.documentation();
    format!("| `{}` | {kind}{} | {default} | {note} |\n", row.name, values(row))
}

fn rendered() -> String {
    let mut text = String::from(
        "# Configuration\n\nMade from the rows in `src/config`; the test `the_page_lists_every_option` keeps it so.\n\n\
         Values come from the file of `--config` (the syntax of Java's properties), then from variables `RINGTAIL_…` \
         (`RINGTAIL_LOG_DIRS` is `log.dirs`, `RINGTAIL_SHARDS` is `ringtail.shards`), then from `--set key=value`; the last \
         one counts. A value that an option does not take stops the start with file, line, key and range. An unknown option \
         is a warning, and so is one without effect.\n\n\
         A topic's own option goes before the broker's. `flush.messages=1` asks for `ringtail.durability=flushed`.\n",
    );
    let live = |row: &Row| row.effect == Effect::Live;
    let head = "\n| option | type | default | |\n|---|---|---|---|\n";
    let mut section = |title: &str, rows: Vec<&'static Row>| {
        let _ = write!(text, "\n## {title}\n{head}");
        rows.into_iter().for_each(|row| text.push_str(&line(row)));
    };
    let topics: Vec<&'static Row> = topic_rows().filter(|row| !row.hidden).map(|row| row.row).collect();
    section("Broker options", broker_rows().filter(|row| live(row)).collect());
    section(
        "Topic options",
        topics.iter().copied().filter(|row| live(row)).collect(),
    );
    section(
        "Topic options that are stored but have no effect yet",
        topics.into_iter().filter(|row| !live(row)).collect(),
    );
    section(
        "Broker options without effect",
        broker_rows().filter(|row| !live(row)).collect(),
    );
    text
}

#[test]
fn the_page_lists_every_option() {
    let page = rendered();
    if page != include_str!("../../docs/configuration.md") {
        let made = std::env::temp_dir().join("ringtail-configuration.md");
        std::fs::write(&made, page).expect("the temporary folder takes a file");
        panic!(
            "docs/configuration.md is not what the rows say; what it should be is in {}",
            made.display()
        );
    }
}
