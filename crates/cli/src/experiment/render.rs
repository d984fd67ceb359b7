//! The document as files: one page of HTML, Markdown with plots beside it, and JSON.

mod filters;
mod plots;
mod view;

use super::document::{Document, Verdict};
use crate::failure::Failure;
use askama::Template;
use plots::Plots;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use view::View;

/// The page: nothing in it comes from elsewhere, and its policy (CSP) lets nothing do so.
#[derive(Template)]
#[template(path = "experiment/page.html")]
struct Page<'a> {
    view: View<'a>,
    plots: &'a Plots,
}

#[derive(Template)]
#[template(path = "experiment/report.md")]
struct Markdown<'a> {
    view: View<'a>,
    /// Whether plots stand beside it.
    with_plots: bool,
}

/// The directory of a report.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes it, and tries whether files can be written there.
    ///
    /// # Errors
    /// They can't.
    pub(super) fn open(dir: &Path) -> Result<Self, Failure> {
        let files = Self { dir: dir.to_owned() };
        fs::create_dir_all(dir)
            .and_then(|()| tempfile::tempfile_in(dir))
            .map_err(|error| files.refused(dir, &error))?;
        Ok(files)
    }

    /// Writes the report.
    ///
    /// # Errors
    /// A file can't be written.
    pub(super) fn write(&self, document: &Document) -> Result<(), Failure> {
        let plots = Plots::draw(document).map_err(|error| Failure::Other(format!("drawing: {error}")))?;
        let json = serde_json::to_string_pretty(document)
            .map_err(|error| Failure::Other(format!("writing JSON: {error}")))?;
        let page = rendered(&Page { view: View::new(document), plots: &plots })?;
        let text = rendered(&Markdown { view: View::new(document), with_plots: true })?;
        self.put("experiment.json", &json)?;
        self.put("experiment.html", &page)?;
        self.put("experiment.md", &text)?;
        plots.named().into_iter().try_for_each(|(name, plot)| self.put(name, plot))
    }

    /// A few lines for who has run it.
    pub(super) fn summary(&self, document: &Document) -> String {
        let count = |verdict| document.requirements.iter().filter(|line| line.verdict == verdict).count();
        format!(
            "report: {}\nrequirements: {} met, {} not met, {} not shown by this run; {:.0} s; {}",
            self.dir.join("experiment.html").display(),
            count(Verdict::Met),
            count(Verdict::NotMet),
            count(Verdict::NotShown),
            document.seconds,
            if document.ok { "ok" } else { "FAILED" }
        )
    }

    fn put(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        fs::write(&path, text).map_err(|error| self.refused(&path, &error))
    }

    fn refused(&self, path: &Path, error: &io::Error) -> Failure {
        Failure::Other(format!(
            "the report can't be written: {}: {error}; give --report a directory that you may write",
            path.display()
        ))
    }
}

/// The document as Markdown alone.
///
/// # Errors
/// The template can't be rendered.
pub(super) fn markdown(document: &Document) -> Result<String, Failure> {
    rendered(&Markdown { view: View::new(document), with_plots: false })
}

fn rendered(template: &impl Template) -> Result<String, Failure> {
    template.render().map_err(|error| Failure::Other(format!("rendering the report: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::document::{Command, Device, Machine, Part, Tool};
    use crate::experiment::requirements::{original, requirements};

    /// A document in which everything that comes from elsewhere is `text`.
    fn document(text: &str) -> Document {
        let text = || text.to_owned();
        let mut document = Document {
            program: text(),
            begun: text(),
            seconds: 1.,
            quick: false,
            optimised: true,
            ok: false,
            machine: Machine {
                processor: text(),
                processors: 1,
                memory: text(),
                load: text(),
                kernel: text(),
                system: text(),
            },
            device: text(),
            devices: vec![Device { name: text(), description: text(), usable: false, gids: Vec::new() }],
            tools: vec![Tool { command: text(), output: Part::Measured(text()) }],
            platforms: Vec::new(),
            sizes: Part::Failed(text()),
            pingpong: Part::NotRun(text()),
            connection: Part::Failed(text()),
            psns: Part::Failed(text()),
            clients: Part::Failed(text()),
            wire: Part::NotRun(text()),
            requirements: Vec::new(),
            original: original(),
            commands: vec![Command { line: text(), seconds: 1., outcome: text() }],
        };
        document.requirements = requirements(&document);
        document
    }

    #[test]
    fn what_comes_from_elsewhere_is_text_on_the_page_and_not_markup() {
        let document = document("<script>alert('&amp;')</script><img src=x onerror=\"y\">");
        let page = Page { view: View::new(&document), plots: &Plots::default() }.render().unwrap();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.matches("&#60;script&#62;").count() >= 15, "{page}");
    }

    #[test]
    fn what_comes_from_elsewhere_neither_ends_a_cell_nor_a_block_of_markdown() {
        let document = document("a|b\n```\n| <b> *x*");
        let text = markdown(&document).unwrap();
        for line in text.lines().filter(|line| line.starts_with("| ") && line.contains("a\\|b")) {
            assert!(!line.contains("<b>") || line.contains("\\<b\\>"), "{line}");
        }
        assert!(text.contains(r"a\|b \`\`\`"), "{text}");
        // Its own fences alone: of the tool's output and of the commands.
        assert_eq!(text.lines().filter(|line| line.starts_with("```")).count(), 4, "{text}");
    }

    #[test]
    fn what_was_not_run_is_said_to_be_and_what_failed_is_not_met() {
        let document = document("no such thing");
        assert!(!document.is_good());
        let text = markdown(&document).unwrap();
        assert!(text.contains("not run: no such thing") && text.contains("FAILED: no such thing"), "{text}");
        let verdict = |what: &str| {
            let line = document.requirements.iter().find(|line| line.what == what).unwrap();
            line.verdict
        };
        assert_eq!(verdict("Nothing to be read on the path"), Verdict::NotShown);
        assert_eq!(verdict("Several clients at once"), Verdict::NotMet);
    }
}
