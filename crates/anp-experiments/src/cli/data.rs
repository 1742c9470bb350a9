//! `anp data`: what data sets there are, and how to get them.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::builder::PossibleValuesParser;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::globals::Globals;
use super::output::{chain, note};
use crate::data::{
    FetchEvent, FetchOptions, FileState, ImportOutcome, ImportedFile, Manifest, NAMES, Presence,
    Split, Store, manifest, manifests,
};

/// List, download, import and check data sets
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp data list                                 what there is, and where
  anp data fetch penn_treebank                  download one data set
  anp data import ~/Downloads                   take in files that are already here
  anp data verify                               look for missing and damaged files
  anp data fetch --data-dir /scratch/data       keep the data elsewhere

The data folder is --data-dir, else ANP_DATA_DIR, else the platform's data folder.")]
pub struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DataCommand {
    /// List the data sets: whether they are there, their size, licence and place
    #[command(after_help = "\
Examples:
  anp data list
  anp data list --data-dir /scratch/data")]
    List,

    /// Download what is missing or damaged
    ///
    /// A broken transfer is continued, here and in the next call; several addresses are tried in
    /// turn. A file gets its name only when its SHA-256 is right.
    #[command(after_help = "\
Examples:
  anp data fetch                                everything that can be downloaded
  anp data fetch penn_treebank
  ANP_DATA_DIR=/scratch/data anp data fetch wikitext_2

HTTPS_PROXY and NO_PROXY are heeded.")]
    Fetch {
        /// Data sets; all that can be downloaded if none is given
        #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(NAMES))]
        names: Vec<String>,
    },

    /// Take in files that are already on this machine
    ///
    /// Looks in DIR and the folders directly in it for the files of the data sets, plain, .gz or
    /// .xz, and takes those whose unpacked bytes have the right SHA-256.
    #[command(after_help = "\
Examples:
  anp data import ~/Downloads                   whatever is found there
  anp data import simple-examples/data penn_treebank")]
    Import {
        /// Folder that has the files
        dir: PathBuf,
        /// Data sets; those that DIR has files of if none is given
        #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(NAMES))]
        names: Vec<String>,
    },

    /// Check sizes, checksums and token counts of what is there
    #[command(after_help = "\
Examples:
  anp data verify                               everything that is there
  anp data verify penn_treebank                 fails if it is not there")]
    Verify {
        /// Data sets; all that are there if none is given
        #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(NAMES))]
        names: Vec<String>,
    },
}

/// Run `anp data`: results go to stdout, progress to stderr. `--quiet` leaves out everything except
/// the results of `list` and `verify`.
///
/// # Errors
///
/// If something could not be fetched, imported or written, or `verify` found something wrong; the
/// exit code is then 2.
pub(super) fn run(args: &DataArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let desk = Desk { store: globals.store(), quiet: globals.quiet, out: &mut out };
    let is_broken_pipe = |err: &io::Error| err.kind() == io::ErrorKind::BrokenPipe;
    match desk.execute(&args.command) {
        // Whoever reads the output has seen enough, as in `anp data list | head -1`.
        Err(err) if err.downcast_ref().is_some_and(is_broken_pipe) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

/// The data sets with these names, or all.
fn selected(names: &[String]) -> anyhow::Result<Vec<Manifest>> {
    if names.is_empty() {
        return Ok(manifests());
    }
    Ok(names.iter().map(|name| manifest(name)).collect::<Result<_, _>>()?)
}

/// One error for several; each failure is a data set's name and what was wrong.
fn all_or(what: &str, failures: Vec<(String, anyhow::Error)>) -> anyhow::Result<()> {
    match <[_; 1]>::try_from(failures) {
        Ok([(_, err)]) => Err(err),
        Err(failures) if failures.is_empty() => Ok(()),
        Err(failures) => {
            let each = failures.iter().map(|(name, err)| format!("\n{name}: {err:#}"));
            bail!("{} data sets {what}:{}", failures.len(), each.collect::<String>())
        }
    }
}

/// Where the data sets are, and where results are written.
struct Desk<'a> {
    store: Store,
    quiet: bool,
    out: &'a mut dyn Write,
}

impl Desk<'_> {
    fn execute(mut self, command: &DataCommand) -> anyhow::Result<()> {
        match command {
            DataCommand::List => self.list(),
            DataCommand::Fetch { names } => self.fetch(names),
            DataCommand::Import { dir, names } => self.import(dir, names),
            DataCommand::Verify { names } => self.verify(names),
        }
    }

    /// Write a result, unless it should be quiet.
    fn say(&mut self, line: String) -> io::Result<()> {
        if self.quiet { Ok(()) } else { writeln!(self.out, "{line}") }
    }

    fn say_complete(&mut self, manifest: &Manifest) -> io::Result<()> {
        let folder = self.store.root().join(&manifest.folder);
        self.say(format!("{}: complete in {}", manifest.name, folder.display()))
    }

    fn list(&mut self) -> anyhow::Result<()> {
        let mut table = Table::new();
        table
            .load_preset(presets::UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic);
        if !table.is_tty() {
            table.set_width(100);
        }
        table.set_header(["name", "title", "state", "size", "content", "licence", "folder"]);
        for manifest in manifests() {
            let presence = self.store.presence(&manifest);
            table.add_row([
                manifest.name.clone(),
                manifest.title.clone(),
                presence.to_string(),
                DecimalBytes(manifest.bytes()).to_string(),
                content(&manifest),
                manifest.licence.clone(),
                if manifest.embedded { "built in".to_owned() } else { manifest.folder.clone() },
            ]);
        }
        for column in [3, 4] {
            table
                .column_mut(column)
                .expect("seven columns")
                .set_cell_alignment(CellAlignment::Right);
        }
        writeln!(self.out, "{table}")?;
        writeln!(
            self.out,
            "data folder: {} ({})",
            self.store.root().display(),
            self.store.origin()
        )?;
        Ok(())
    }

    fn fetch(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        for manifest in selected(names)? {
            if manifest.embedded {
                if !names.is_empty() {
                    self.say(format!("{}: built in, nothing to fetch", manifest.name))?;
                }
                continue;
            }
            if !self.quiet && self.store.presence(&manifest) != Presence::Present {
                note(format!("{}: {}", manifest.title, manifest.notice));
            }
            let mut progress = Progress::new(self.quiet);
            let mut show = |event: FetchEvent<'_>| progress.show(&event);
            let done = self.store.fetch(&manifest, &FetchOptions::default(), &mut show);
            progress.clear();
            match done {
                Ok(()) => self.say_complete(&manifest)?,
                Err(err) => failures.push((manifest.name, err.into())),
            }
        }
        all_or("could not be fetched", failures)
    }

    fn import(&mut self, dir: &Path, names: &[String]) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        let mut complete = 0;
        let mut known = Vec::new();
        for manifest in selected(names)?.into_iter().filter(|manifest| !manifest.embedded) {
            let report = self.store.import(&manifest, dir)?;
            for file in &report.files {
                if let ImportOutcome::Imported { from } = &file.outcome {
                    let [name, to] = [&manifest.name, &file.path.display().to_string()];
                    self.say(format!("{name}: {to} from {}", from.display()))?;
                }
            }
            known.extend(manifest.files.iter().map(|file| file.name.clone()));
            if report.is_complete() {
                complete += 1;
                self.say_complete(&manifest)?;
            } else if !names.is_empty() || report.found_any() {
                let missing: String = report.files.iter().filter_map(not_found).collect();
                let [dir, name] = [&dir.display().to_string(), &manifest.name];
                let err = anyhow!("{dir} does not have all files of `{name}`:{missing}");
                failures.push((manifest.name, err));
            }
        }
        if failures.is_empty() && complete == 0 && names.is_empty() {
            bail!(
                "nothing to import in {} or the folders directly in it; a data set's files are \
                 called {}, plain or with .gz or .xz behind it",
                dir.display(),
                known.join(", ")
            );
        }
        // Without names, a folder that completes one data set need not have the others, however its
        // files are called: many data sets have a `train.txt`.
        if names.is_empty() && complete > 0 {
            return Ok(());
        }
        all_or("could not be imported", failures)
    }

    fn verify(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut failures = Vec::new();
        for manifest in selected(names)? {
            let name = &manifest.name;
            if names.is_empty() && self.store.presence(&manifest) == Presence::Missing {
                writeln!(self.out, "{name}: not there")?;
                continue;
            }
            let found = self.store.verify(&manifest);
            let mut missing = Vec::new();
            let mut wrong = Vec::new();
            for file in found.files {
                match file.state {
                    FileState::Whole => {}
                    FileState::Missing => missing.push(file.path.display().to_string()),
                    FileState::Damaged(err) => wrong.push(chain(&err).join(": ")),
                }
            }
            if !missing.is_empty() {
                let rest = self.store.command("fetch", name);
                let missing = missing.join(", ");
                wrong.push(format!(
                    "`{name}` is not complete: {missing} missing; get the rest with `{rest}`"
                ));
            }
            if let Some(Err(err)) = found.counts {
                wrong.push(err.to_string());
            }
            if wrong.is_empty() {
                writeln!(self.out, "{name}: right ({})", summary(&manifest))?;
                if let Some(variant) = self.store.variant(&manifest) {
                    writeln!(self.out, "{name}: not the official files: {variant}")?;
                }
            } else {
                let is_incomplete = wrong.len() == 1 && !missing.is_empty();
                let what = if is_incomplete { "not complete" } else { "wrong" };
                writeln!(self.out, "{name}: {what}")?;
                failures.push((manifest.name, anyhow!("{}", wrong.join("\n"))));
            }
        }
        all_or("are not right", failures)
    }
}

/// What is said of a file that was not found, on a line of its own.
fn not_found(file: &ImportedFile) -> Option<String> {
    let ImportOutcome::NotFound { candidates } = &file.outcome else { return None };
    let name = file.path.file_name().unwrap_or_default().display();
    let rejected: String = candidates.iter().map(|it| format!("\n    {it}")).collect();
    Some(match rejected.is_empty() {
        true => format!("\n  {name}: no file of that name"),
        false => format!("\n  {name}: no file with the right bytes{rejected}"),
    })
}

/// What a data set consists of.
fn summary(manifest: &Manifest) -> String {
    let kinds = match manifest.classes {
        0 => format!("{} word types", HumanCount(manifest.vocabulary as u64)),
        classes => format!("{classes} classes"),
    };
    let [files, size] = [manifest.files.len() as u64, manifest.bytes()];
    format!("{files} files, {}, {}, {kinds}", DecimalBytes(size), content(manifest))
}

/// How much there is to train and test on.
fn content(manifest: &Manifest) -> String {
    if manifest.is_images() {
        let images = manifest.images(Split::Train) + manifest.images(Split::Test);
        format!("{} images", HumanCount(images as u64))
    } else {
        format!("{} tokens", HumanCount(manifest.tokens() as u64))
    }
}

/// Progress of a download on stderr: a bar where there is a terminal, lines where there is none.
struct Progress {
    quiet: bool,
    terminal: bool,
    bar: ProgressBar,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        Self { quiet, terminal: io::stderr().is_terminal(), bar: ProgressBar::hidden() }
    }

    fn show(&mut self, event: &FetchEvent<'_>) {
        if self.quiet {
            return;
        }
        match event {
            FetchEvent::Started { path, url, done, total } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if self.terminal {
                    self.begin(&name, *done, *total);
                } else {
                    let here = match done {
                        0 => String::new(),
                        done => format!(", of which {} are here,", DecimalBytes(*done)),
                    };
                    self.line(format!("{name}: {}{here} from {url}", DecimalBytes(*total)));
                }
            }
            FetchEvent::Advanced { done, .. } => self.bar.set_position(*done),
            FetchEvent::Failed { url, reason, retry } => {
                let next = match retry {
                    Some(pause) => format!("trying again in {:.1} s", pause.as_secs_f64()),
                    None => "giving this address up".to_owned(),
                };
                // Where there is no terminal, the line above has the address.
                let address = if self.terminal { format!("{url}: ") } else { "  ".to_owned() };
                self.line(format!("{address}{reason}; {next}"));
            }
            FetchEvent::Finished { path, total } => {
                self.clear();
                let [path, size] = [path.display().to_string(), DecimalBytes(*total).to_string()];
                self.line(format!("{path}: {size}, the checksum is right"));
            }
            FetchEvent::Whole { path } => self.line(format!("{}: already there", path.display())),
        }
    }

    fn begin(&mut self, name: &str, done: u64, total: u64) {
        self.clear();
        let style = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        self.bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
            .with_style(ProgressStyle::with_template(style).expect("the template is valid"))
            .with_message(name.to_owned())
            .with_position(done);
        // What was here before says nothing about the rate.
        self.bar.reset_eta();
    }

    fn line(&self, text: String) {
        self.bar.suspend(|| note(text));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: DataArgs,
    }

    /// Exit as `anp data ARGS --data-dir ROOT` does, with what it writes to stdout.
    fn data(root: &Path, args: &[&str]) -> (anyhow::Result<()>, String) {
        let cli = Cli::try_parse_from(["data"].iter().chain(args)).unwrap();
        let mut out = Vec::new();
        let desk = Desk { store: Store::locate(Some(root)), quiet: true, out: &mut out };
        let done = desk.execute(&cli.args.command);
        (done, String::from_utf8(out).unwrap())
    }

    /// The files of the demo corpus under the names of a data set that it is not.
    fn wrong_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for split in ["train", "valid", "test"] {
            fs::write(folder.path().join(format!("ptb.{split}.txt")), "a wrong text\n").unwrap();
        }
        folder
    }

    #[test]
    fn help_and_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(
            Cli::try_parse_from(["data", "fetch", "ptb"]).is_err(),
            "an unknown name is refused"
        );
    }

    #[test]
    fn list_says_what_is_there_and_where() {
        let root = tempfile::tempdir().unwrap();
        let (done, out) = data(root.path(), &["list"]);
        done.unwrap();
        for part in
            ["demo", "embedded", "penn_treebank", "missing", "1,085,779", "given by --data-dir"]
        {
            assert!(out.contains(part), "{part}: {out}");
        }
    }

    #[test]
    fn verify_checks_what_is_there_and_asks_for_what_is_named() {
        let root = tempfile::tempdir().unwrap();
        let (done, out) = data(root.path(), &["verify"]);
        done.unwrap();
        assert!(out.contains("demo: right") && out.contains("penn_treebank: not there"), "{out}");

        let (done, _) = data(root.path(), &["verify", "penn_treebank"]);
        let message = done.unwrap_err().to_string();
        assert!(message.contains("anp data fetch penn_treebank --data-dir"), "{message}");

        let wrong = wrong_files();
        fs::create_dir(root.path().join("ptb")).unwrap();
        fs::copy(wrong.path().join("ptb.test.txt"), root.path().join("ptb/ptb.test.txt")).unwrap();
        let (done, out) = data(root.path(), &["verify"]);
        let message = done.unwrap_err().to_string();
        assert!(message.contains("13 bytes instead of 449945"), "{message}");
        assert!(out.contains("penn_treebank: wrong"), "{out}");
    }

    #[test]
    fn import_says_what_it_looked_for_and_why_a_file_was_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let empty = tempfile::tempdir().unwrap();
        let (done, _) = data(root.path(), &["import", empty.path().to_str().unwrap()]);
        let message = done.unwrap_err().to_string();
        assert!(
            message.contains("nothing to import") && message.contains("ptb.train.txt"),
            "{message}"
        );

        let wrong = wrong_files();
        let (done, _) = data(root.path(), &["import", wrong.path().to_str().unwrap()]);
        let message = done.unwrap_err().to_string();
        assert!(
            message.contains("`penn_treebank`") && message.contains("has 13 bytes, not 5101618"),
            "{message}"
        );

        let (done, _) =
            data(root.path(), &["import", empty.path().to_str().unwrap(), "wikitext_2"]);
        let message = done.unwrap_err().to_string();
        assert!(message.contains("train.txt: no file of that name"), "{message}");

        let (done, _) = data(root.path(), &["import", "no such folder"]);
        assert!(done.is_err());
    }

    #[test]
    fn an_embedded_data_set_needs_no_download() {
        let root = tempfile::tempdir().unwrap();
        let (done, _) = data(root.path(), &["fetch", "demo"]);
        done.unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_failure_is_reported_as_it_is_and_several_by_name() {
        let failure = |name: &str| (name.to_owned(), anyhow::anyhow!("no luck with {name}"));
        all_or("failed", Vec::new()).unwrap();
        assert_eq!(all_or("failed", vec![failure("a")]).unwrap_err().to_string(), "no luck with a");
        let message = all_or("failed", vec![failure("a"), failure("b")]).unwrap_err().to_string();
        assert_eq!(message, "2 data sets failed:\na: no luck with a\nb: no luck with b");
    }
}
