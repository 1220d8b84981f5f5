//! Results as people and programs want them: text, TAP 13, JUnit XML, JSON.
//!
//! Owns the form. Refuses to know how cases are run.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use super::{CaseResult, Outcome};

/// A form of report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines for people.
    Text,
    /// Test Anything Protocol, version 13: `prove` and others know no newer one.
    Tap,
    /// JUnit's XML, as continuous-integration servers read it.
    Junit,
    /// One JSON object.
    Json,
}

/// How many cases ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Everything as expected.
    pub passed: usize,
    /// Something not.
    pub failed: usize,
    /// Not possible with this card.
    pub skipped: usize,
    /// Not tried.
    pub not_run: usize,
}

impl Totals {
    fn count(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed { .. } => &mut self.failed,
            Outcome::Skipped(_) => &mut self.skipped,
            Outcome::NotRun(_) => &mut self.not_run,
        } += 1;
    }

    /// Whether everything that was to be tried was, and was as expected.
    pub const fn is_good(&self) -> bool {
        self.failed == 0 && self.not_run == 0
    }
}

/// Writes a report as results come.
pub struct Report<W> {
    out: W,
    form: Form,
    /// Whether somebody watches: then the case at work is shown, and passed ones are not.
    terminal: bool,
    expected: usize,
    totals: Totals,
    results: Vec<CaseResult>,
}

impl<W: Write> Report<W> {
    /// Begins a report of so many cases.
    pub fn begin(mut out: W, form: Form, terminal: bool, expected: usize) -> io::Result<Self> {
        if form == Form::Tap {
            writeln!(out, "TAP version 13\n1..{expected}")?;
        }
        Ok(Self {
            out,
            form,
            terminal: terminal && form == Form::Text,
            expected,
            totals: Totals::default(),
            results: Vec::new(),
        })
    }

    /// One more result.
    pub fn case(&mut self, result: CaseResult) -> io::Result<()> {
        self.totals.count(&result.outcome);
        match self.form {
            Form::Text => self.text(&result)?,
            Form::Tap => {
                let number = self.number();
                self.out.write_all(tap(number, &result).as_bytes())?;
            }
            Form::Junit | Form::Json => self.results.push(result),
        }
        self.out.flush()
    }

    /// The end; what there is to say of all.
    pub fn end(mut self) -> io::Result<Totals> {
        let text = match self.form {
            Form::Text => self.summary(),
            Form::Tap => String::new(),
            Form::Junit => junit(&self.results, &self.totals),
            Form::Json => json(&self.results, &self.totals),
        };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(self.totals)
    }

    const fn number(&self) -> usize {
        let totals = &self.totals;
        totals.passed + totals.failed + totals.skipped + totals.not_run
    }

    fn text(&mut self, result: &CaseResult) -> io::Result<()> {
        if self.terminal {
            // The line before is overwritten: only what is not as it should be stays.
            write!(self.out, "\r\x1b[K")?;
        }
        if !self.terminal || result.outcome != Outcome::Passed || !result.printed.is_empty() {
            self.out.write_all(line(result).as_bytes())?;
        }
        if self.terminal {
            write!(
                self.out,
                "{}/{} {}",
                self.number(),
                self.expected,
                result.name
            )?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let totals = &self.totals;
        let mut text = format!("{clear}{} passed, {} failed", totals.passed, totals.failed);
        for (count, what) in [(totals.skipped, "skipped"), (totals.not_run, "not run")] {
            if count > 0 {
                // Writing into a String cannot fail.
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
        text
    }
}

/// One case in lines.
fn line(result: &CaseResult) -> String {
    let file = result.file.display();
    let (mark, more) = match &result.outcome {
        Outcome::Passed => ("ok     ", String::new()),
        Outcome::Failed { place, message } => {
            let detail = format!("{place}: {message}\n{}", place.excerpt());
            ("FAILED ", indented(&detail, "    ") + &clauses(result))
        }
        Outcome::Skipped(why) => ("skipped", indented(why, "    ")),
        Outcome::NotRun(why) => ("not run", indented(why, "    ")),
    };
    let printed = indented(&result.printed.join("\n"), "  | ");
    format!("{mark} {file}: {}\n{printed}{more}", result.name)
}

fn clauses(result: &CaseResult) -> String {
    result
        .clauses
        .iter()
        .map(|clause| format!("    checks {clause}\n"))
        .collect()
}

fn indented(text: &str, indent: &str) -> String {
    text.lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}

/// TAP 13: a test point, its directive, and a YAML block of what went wrong.
fn tap(number: usize, result: &CaseResult) -> String {
    let name =
        format!("{}: {}", result.file.display(), result.name).replace(['\\', '#', '\n'], " ");
    let directive = |why: &str| why.replace(['#', '\n'], " ");
    let printed = indented(&result.printed.join("\n"), "# ");
    let detail = |message: &str| {
        let message = indented(message, "      ");
        format!(
            "  ---\n  message: |\n{message}  duration_ms: {}\n  ...\n",
            result.elapsed.as_millis()
        )
    };
    let point = match &result.outcome {
        Outcome::Passed => format!("ok {number} - {name}\n"),
        Outcome::Skipped(why) => format!("ok {number} - {name} # SKIP {}\n", directive(why)),
        Outcome::Failed { place, message } => {
            format!(
                "not ok {number} - {name}\n{}",
                detail(&format!("{place}: {message}\n{}", place.excerpt()))
            )
        }
        Outcome::NotRun(why) => format!(
            "not ok {number} - {name}\n{}",
            detail(&format!("not run: {why}"))
        ),
    };
    point + &printed
}

fn seconds(elapsed: Duration) -> String {
    format!("{:.3}", elapsed.as_secs_f64())
}

fn junit(results: &[CaseResult], totals: &Totals) -> String {
    let all: Duration = results.iter().map(|result| result.elapsed).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"reader-bridge script\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">\n",
        results.len(),
        totals.failed,
        totals.not_run,
        totals.skipped,
        seconds(all)
    );
    results
        .iter()
        .for_each(|result| xml.push_str(&junit_case(result)));
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

fn junit_case(result: &CaseResult) -> String {
    let body = match &result.outcome {
        Outcome::Passed => String::new(),
        Outcome::Failed { place, message } => format!(
            "<failure message=\"{}\">{}</failure>",
            xml(message.lines().next().unwrap_or_default()),
            xml(&format!("{place}: {message}\n{}", place.excerpt()))
        ),
        Outcome::Skipped(why) => format!("<skipped message=\"{}\"/>", xml(why)),
        Outcome::NotRun(why) => format!("<error type=\"not-run\" message=\"{}\"/>", xml(why)),
    };
    let clauses = result
        .clauses
        .iter()
        .map(|clause| format!("<property name=\"clause\" value=\"{}\"/>", xml(clause)));
    let clauses: String = clauses.collect();
    let properties = if clauses.is_empty() {
        clauses
    } else {
        format!("<properties>{clauses}</properties>")
    };
    let printed = if result.printed.is_empty() {
        String::new()
    } else {
        format!(
            "<system-out>{}</system-out>",
            xml(&result.printed.join("\n"))
        )
    };
    format!(
        "<testcase classname=\"{}\" name=\"{}\" time=\"{}\">{properties}{body}{printed}</testcase>\n",
        xml(&result.file.display().to_string()),
        xml(&result.name),
        seconds(result.elapsed)
    )
}

/// Escaped; characters that XML 1.0 cannot hold are replaced.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

fn json(results: &[CaseResult], totals: &Totals) -> String {
    let cases: Vec<_> = results.iter().map(json_case).collect();
    let report = serde_json::json!({
        "passed": totals.passed,
        "failed": totals.failed,
        "skipped": totals.skipped,
        "not_run": totals.not_run,
        "cases": cases,
    });
    format!("{report:#}\n")
}

fn json_case(result: &CaseResult) -> serde_json::Value {
    let (outcome, message, place) = match &result.outcome {
        Outcome::Passed => ("passed", None, None),
        Outcome::Failed { place, message } => ("failed", Some(message), Some(place)),
        Outcome::Skipped(why) => ("skipped", Some(why), None),
        Outcome::NotRun(why) => ("not_run", Some(why), None),
    };
    let place = place.map(|place| {
        serde_json::json!({ "file": place.source.name, "line": place.line, "column": place.column })
    });
    serde_json::json!({
        "file": result.file.display().to_string(),
        "name": result.name,
        "clauses": result.clauses,
        "card": result.card,
        "outcome": outcome,
        "message": message,
        "place": place,
        "printed": result.printed,
        "milliseconds": u64::try_from(result.elapsed.as_millis()).unwrap_or(u64::MAX),
    })
}
