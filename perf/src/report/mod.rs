//! `perf report`: from the results of one host to a page, plots and Markdown. Nothing is measured here, and the
//! same results give the same octets.

mod bars;
mod curves;
mod goals;
mod look;
mod model;
mod number;
mod plots;
mod read;
mod svg;
mod tables;
#[cfg(test)]
mod tests;
mod view;

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, context};

use view::Page;

const PAGE: &str = include_str!("page.html");
const MARKDOWN: &str = include_str!("page.md");
const BEGIN: &str = "<!-- report:begin -->";
const END: &str = "<!-- report:end -->";

/// What `perf report` takes.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Folder under perf/results/; without it the one with the newest results
    #[arg(long)]
    host: Option<String>,
    /// Where report.html, report.md, headline.svg and plots/ go; without it beside the results
    #[arg(long)]
    out: Option<PathBuf>,
    /// Put the Markdown between the markers of docs/performance.md too
    #[arg(long)]
    update_docs: bool,
}

/// Runs the command; `folder` is that of this crate.
pub(crate) fn run(folder: &Path, options: &Options) -> Result<(), String> {
    let all = folder.join("results");
    let results = match &options.host {
        Some(host) => all.join(host),
        None => read::newest_host(&all)?,
    };
    let out = options.out.clone().unwrap_or_else(|| results.clone());
    for path in write(&results, &out)? {
        println!("wrote {}", path.display());
    }
    if options.update_docs {
        let path = folder.join("../docs/performance.md");
        let slug = results.file_name().unwrap_or_default().to_string_lossy().into_owned();
        update(&path, &block(&results, &format!("../perf/results/{slug}/"))?)?;
        println!("updated {}", path.display());
    }
    Ok(())
}

/// Writes the report of one host's results; the paths of what was written.
pub(crate) fn write(results: &Path, out: &Path) -> Result<Vec<PathBuf>, String> {
    let (built, problems) = build(results)?;
    for problem in problems {
        println!("left out: {}: {}", problem.file, problem.reason);
    }
    let plots = out.join("plots");
    fs::create_dir_all(&plots).map_err(|e| format!("{}: {e}", plots.display()))?;
    let mut written = vec![out.join("report.html"), out.join("report.md")];
    put(&written[0], &html(&built.page)?)?;
    put(&written[1], &markdown(&built.page, "")?)?;
    if let Some(headline) = &built.headline {
        written.push(out.join("headline.svg"));
        put(&out.join("headline.svg"), &headline.svg.file(headline.peers.iter().map(String::as_str)))?;
    }
    for plot in &built.plots {
        let path = plots.join(format!("{}.svg", plot.name));
        put(&path, &plot.svg.file(plot.peers.iter().map(String::as_str)))?;
        written.push(path);
    }
    sweep(&plots, &written)?;
    Ok(written)
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Removes plots of an earlier report whose scenario is gone.
fn sweep(plots: &Path, written: &[PathBuf]) -> Result<(), String> {
    let entries = fs::read_dir(plots).map_err(|e| format!("{}: {e}", plots.display()))?;
    for path in entries.filter_map(|entry| entry.ok().map(|e| e.path())) {
        let ours = || fs::read_to_string(&path).is_ok_and(|text| text.starts_with(svg::MARK));
        if !written.contains(&path) && path.extension().is_some_and(|e| e == "svg") && ours() {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

fn build(results: &Path) -> Result<(view::Built, Vec<read::Problem>), String> {
    let found = read::folder(results)?;
    if found.results.is_empty() {
        let reasons: Vec<String> =
            found.problems.iter().map(|p| format!("\n  {}: {}", p.file, p.reason)).collect();
        return Err(format!("{}: no result to report{}", results.display(), reasons.concat()));
    }
    let goals = goals::judge(goals::load()?, &found.results);
    let built = view::build(&found, &model::verdict(&found.results), &goals);
    Ok((built, found.problems))
}

fn html(page: &Page) -> Result<String, String> {
    render("page.html", PAGE, page, "")
}

/// `images` stands before the names of the plots.
fn markdown(page: &Page, images: &str) -> Result<String, String> {
    Ok(tidy(&render("page.md", MARKDOWN, page, images)?))
}

fn render(name: &str, template: &str, page: &Page, images: &str) -> Result<String, String> {
    let mut templates = Environment::new();
    templates.set_trim_blocks(true);
    templates.set_lstrip_blocks(true);
    templates.set_keep_trailing_newline(true);
    templates.set_auto_escape_callback(|name| {
        if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
    });
    templates.add_filter("cell", |text: String| cell(&text));
    let reason = |e: minijinja::Error| format!("{name}: {e:#}");
    templates.add_template(name, template).map_err(reason)?;
    let template = templates.get_template(name).map_err(reason)?;
    template.render(context! { page, images }).map_err(reason)
}

/// Text that can stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('|', "\\|")
        .replace('`', "'")
}

/// At most one empty line in a row, none at the ends.
fn tidy(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().map(str::trim_end) {
        if !(line.is_empty() && (out.is_empty() || out.ends_with("\n\n"))) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.trim_end().to_owned() + "\n"
}

fn block(results: &Path, images: &str) -> Result<String, String> {
    markdown(&build(results)?.0.page, images)
}

/// Replaces what stands between the markers of a document.
fn update(path: &Path, block: &str) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    put(path, &between(&text, block).map_err(|e| format!("{}: {e}", path.display()))?)
}

fn between(text: &str, block: &str) -> Result<String, String> {
    let missing = || format!("lacks the lines {BEGIN} and {END}");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n\n{block}\n{END}{after}"))
}
