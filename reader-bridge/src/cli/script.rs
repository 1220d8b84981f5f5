//! `script`: runs test scripts on cards.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum, ValueHint};
use reader_bridge::{
    card::CardSpec,
    script::{
        self, Case, CaseResult, Finish, Plan, Runner, Script as Loaded, Setting, SystemFiles,
        Variables, parse_value,
        report::{Form, Report},
    },
};

use super::{
    exit::{CODES, Failure, NO_CARD, WRONG},
    opening::Opening,
    values,
};

const EXAMPLES: &str = "\
Examples:
  reader-bridge script tests/conformance/*.apdu --card image:card.img
  reader-bridge script suite.apdu --card pcsc --report junit > report.xml
  reader-bridge script a.apdu b.apdu --card 'pcsc:Reader 1' --card 'pcsc:Reader 2' --jobs 2
  echo '00A4040000' | reader-bridge script - --card vpcd:35970
  reader-bridge script suite.apdu --card pcsc --fault card:pull-after=20 --seed 1";

/// Run test scripts on cards (docs/scripts.md).
#[derive(Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub(super) struct Script {
    /// Scripts; `-` is standard input.
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE; several times for several cards.
    #[arg(long, value_name = "CARD", required = true)]
    card: Vec<CardSpec>,
    #[command(flatten)]
    opening: Opening,
    #[command(flatten)]
    given: Given,
    /// The form of the report.
    #[arg(long, value_enum, default_value = "text")]
    report: ReportForm,
    /// Only cases with this text in "file: name"; several times: any of them.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Do not run what comes after the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// How many cards work at a time; each takes whole files [default: all of them].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// How long one case may take.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "1m")]
    case_limit: Duration,
}

/// Values for a script's variables.
#[derive(Args)]
pub(super) struct Given {
    /// Give a variable a value, in hexadecimal digits.
    #[arg(long, value_name = "NAME=HEX")]
    set: Vec<String>,
    /// The same, from a file: for keys, which every process could read on the command line.
    #[arg(long, value_name = "NAME=FILE")]
    set_file: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReportForm {
    Text,
    Tap,
    Junit,
    Json,
}

impl From<ReportForm> for Form {
    fn from(form: ReportForm) -> Self {
        match form {
            ReportForm::Text => Self::Text,
            ReportForm::Tap => Self::Tap,
            ReportForm::Junit => Self::Junit,
            ReportForm::Json => Self::Json,
        }
    }
}

impl Given {
    pub(super) fn variables(&self) -> Result<Variables, Failure> {
        let wrong = |option: &str, text: &str, why: &str| {
            Failure::Arguments(format!("{option} {text}: {why}"))
        };
        let mut variables = Variables::new();
        for text in &self.set {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| wrong("--set", text, "write NAME=HEX"))?;
            let value = parse_value(value).map_err(|why| wrong("--set", name, &why))?;
            variables.insert(name.to_owned(), value);
        }
        for text in &self.set_file {
            let (name, file) = text
                .split_once('=')
                .ok_or_else(|| wrong("--set-file", text, "write NAME=FILE"))?;
            let content = std::fs::read_to_string(file).map_err(|error| Failure::KeyFile {
                path: file.into(),
                error,
            })?;
            let value = parse_value(&content).map_err(|why| wrong("--set-file", text, &why))?;
            variables.insert(name.to_owned(), value);
        }
        Ok(variables)
    }
}

/// Scripts, or all that is wrong with them on standard error.
pub(super) fn load(files: &[PathBuf]) -> Option<Vec<Loaded>> {
    let mut scripts = Vec::new();
    for file in files {
        match script::load(file, &SystemFiles) {
            Ok(script) => scripts.push(script),
            // Without standard error there is only the exit code.
            Err(error) => drop(writeln!(io::stderr(), "reader-bridge: {error}")),
        }
    }
    (scripts.len() == files.len()).then_some(scripts)
}

impl Script {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let variables = self.given.variables()?;
        let Some(scripts) = load(&self.files) else {
            return Ok(WRONG.into());
        };
        let lacking: Vec<_> = scripts
            .iter()
            .filter_map(|one| one.lacks(&variables))
            .collect();
        for error in &lacking {
            drop(writeln!(io::stderr(), "reader-bridge: {error}"));
        }
        if !lacking.is_empty() {
            return Ok(WRONG.into());
        }
        let wanted = scripts.iter().map(|script| self.wanted(script)).sum();
        if wanted == 0 && !self.filter.is_empty() {
            return Err(Failure::Arguments(format!(
                "no case has {} in its \"file: name\" (--filter)",
                self.filter.join(" or ")
            )));
        }
        let seed = self.opening.seed();
        let prepared = self.opening.prepare(seed)?;
        let mut runners = Vec::new();
        for (spec, n) in self.card.iter().zip(0..).take(self.workers()) {
            let port = prepared.open(spec, n)?;
            let plan = self.plan(variables.clone(), spec, seed);
            let runner = Runner::new(port, plan);
            runners.push(
                runner.map_err(|error| Failure::System("a thread cannot be started", error))?,
            );
        }
        for runner in &mut runners {
            if let Finish::NoCard(why) = runner.connect() {
                drop(writeln!(io::stderr(), "reader-bridge: {why}"));
                return Ok(NO_CARD.into());
            }
        }
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let report = Report::begin(stdout, self.report.into(), terminal, wanted);
        let mut report = report.map_err(Failure::Output)?;
        let results = self.start(scripts, runners);
        for result in results {
            report.case(result).map_err(Failure::Output)?;
        }
        let totals = report.end().map_err(Failure::Output)?;
        Ok(u8::from(!totals.is_good()).into())
    }

    fn workers(&self) -> usize {
        self.jobs.map_or(self.card.len(), usize::from)
    }

    fn plan(&self, variables: Variables, spec: &CardSpec, seed: u64) -> Plan {
        Plan {
            setting: Setting {
                variables,
                emulator: matches!(spec, CardSpec::Image(_)),
                seed,
            },
            card_wait: self.opening.wait_card,
            case_limit: self.case_limit,
            fail_fast: self.fail_fast,
            carry_over: false,
        }
    }

    fn wanted(&self, script: &Loaded) -> usize {
        let picked = script
            .cases
            .iter()
            .filter(|case| picks(&self.filter, script, case));
        picked.count()
    }

    /// Each card takes one file after the other, in a thread of its own.
    fn start(&self, scripts: Vec<Loaded>, runners: Vec<Runner>) -> mpsc::Receiver<CaseResult> {
        let (results, received) = mpsc::channel();
        let queue = Arc::new(Mutex::new(Queue {
            scripts: scripts.into_iter(),
            stopped: false,
            workers: runners.len(),
        }));
        for runner in runners {
            let (queue, results) = (Arc::clone(&queue), results.clone());
            let filter = self.filter.clone();
            thread::spawn(move || work(runner, &queue, &filter, &results));
        }
        received
    }
}

/// What is still to be run, and by how many.
struct Queue {
    scripts: std::vec::IntoIter<Loaded>,
    /// A case has failed, and that was to be the end.
    stopped: bool,
    workers: usize,
}

impl Queue {
    /// The next script. One whose card is gone leaves it to the others, if there are any.
    fn next(&mut self, runner: &Runner) -> Option<Loaded> {
        if runner.is_over() && !self.stopped && self.workers > 1 {
            self.workers -= 1;
            return None;
        }
        self.scripts.next()
    }
}

fn work(
    mut runner: Runner,
    queue: &Mutex<Queue>,
    filter: &[String],
    results: &mpsc::Sender<CaseResult>,
) {
    let queue = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = |script: &Loaded, case: &Case| picks(filter, script, case);
    loop {
        let Some(script) = queue().next(&runner) else {
            return;
        };
        if queue().stopped {
            runner.stop("an earlier case failed (--fail-fast)");
        }
        // Nobody is left to be told if this fails.
        runner.run(&script, &wanted, &mut |result| drop(results.send(result)));
        if runner.is_over() && runner.fails_fast() {
            queue().stopped = true;
        }
    }
}

fn picks(filter: &[String], script: &Loaded, case: &Case) -> bool {
    let name = format!("{}: {}", script.path.display(), case.name);
    filter.is_empty() || filter.iter().any(|text| name.contains(text))
}
