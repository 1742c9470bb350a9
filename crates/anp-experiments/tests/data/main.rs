//! Data sets from the outside: downloads from a server that misbehaves, imports, damaged files, and
//! the real corpora where they are.

mod server;

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anp_experiments::data::{
    Corpus, DataError, FetchEvent, FetchFailure, FetchOptions, FileState, ImportOutcome, Manifest,
    Mismatch, Presence, Sha256Hex, Split, Store, manifest,
};
use server::{Reply, Server};
use tempfile::TempDir;

const VALID: &str = "the cat saw\n";
const TEST: &str = "a dog <unk>\n";

/// A training text of some 300 kB: more than a transfer takes at once.
fn train() -> String {
    (0..30_000).map(|line| format!("the cat <unk> {}\n", line % 100)).collect::<String>()
        + "a dog saw\n"
}

/// A data set called `toy`; every file has the addresses `<base>/<split>` for every base.
fn toy(bases: &[String]) -> Manifest {
    let train = train();
    let corpus = Corpus::from_texts(&train, VALID, TEST).unwrap();
    let mut toml = format!(
        "name = 'toy'\ntitle = 'Toy'\nabout = ''\ncitation = ''\nlicence = 'free'\nnotice = ''\n\
         folder = 'toys'\nvocabulary = {}\n",
        corpus.vocabulary.len()
    );
    for (split, text) in Split::ALL.into_iter().zip([train.as_str(), VALID, TEST]) {
        let urls: Vec<String> = bases.iter().map(|base| format!("'{base}/{split}'")).collect();
        toml += &format!(
            "[[file]]\nsplit = '{split}'\nname = '{split}.txt'\naliases = ['toy.{split}.tokens']\n\
             bytes = {}\nsha256 = '{}'\nlines = {}\ntokens = {}\nurls = [{}]\n",
            text.len(),
            Sha256Hex::of(text.as_bytes()),
            text.lines().count(),
            corpus.split(split).len(),
            urls.join(", "),
        );
    }
    toml::from_str(&toml).unwrap()
}

/// The right bytes for the path `/<split>`, possibly below other folders.
fn right(path: &str) -> Vec<u8> {
    match path.rsplit('/').next().unwrap() {
        "train" => train().into_bytes(),
        "valid" => VALID.into(),
        "test" => TEST.into(),
        other => panic!("nobody asks for {other}"),
    }
}

/// No pauses; the server is waited for as long as ever, because a busy machine is slow.
fn quick() -> FetchOptions {
    FetchOptions {
        pause: Duration::from_millis(1),
        proxy_from_environment: false,
        ..FetchOptions::default()
    }
}

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::locate(Some(folder.path()));
    (folder, store)
}

fn fetch(store: &Store, manifest: &Manifest) -> Result<(), DataError> {
    store.fetch(manifest, &quick(), &mut |_| {})
}

/// The names of all files below `folder`, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    names
}

const WHOLE: [&str; 3] = ["test.txt", "train.txt", "valid.txt"];

// Downloads
// -----------------------------------------------------------------------------------------------

#[test]
fn a_good_server_is_asked_once_a_file_and_never_again() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    let mut last = None;
    store
        .fetch(&manifest, &quick(), &mut |event| {
            if let FetchEvent::Advanced { done, total } = event {
                last = Some((done, total));
            }
        })
        .unwrap();
    assert_eq!(files(folder.path()), WHOLE);
    assert_eq!(last, Some((TEST.len() as u64, TEST.len() as u64)));
    let corpus = store.load_manifest(&manifest).unwrap();
    assert_eq!(corpus, Corpus::from_texts(&train(), VALID, TEST).unwrap());

    let mut whole = 0;
    store
        .fetch(&manifest, &quick(), &mut |event| {
            whole += usize::from(matches!(event, FetchEvent::Whole { .. }))
        })
        .unwrap();
    assert_eq!((whole, server.requests().len()), (3, 3));
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let server = Server::start(|path, before| match (path, before) {
        ("/train", 0 | 1) => Reply::CutAfter(100_000, right(path)),
        _ => Reply::Good(right(path)),
    });
    let (_folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fetch(&store, &manifest).unwrap();
    let offsets = server.offsets("/train");
    assert_eq!(offsets[0], None);
    let later: Vec<usize> = offsets[1..].iter().map(|offset| offset.unwrap()).collect();
    assert!(
        later.len() == 2 && 0 < later[0] && later[0] < later[1] && later[1] <= 200_000,
        "{later:?}"
    );
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn a_part_left_by_a_killed_process_is_continued() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    fs::write(folder.path().join("toys/train.txt.part"), &train().as_bytes()[..1234]).unwrap();
    // Complete, but the process died before it could give it its name.
    fs::write(folder.path().join("toys/valid.txt.part"), VALID).unwrap();
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/train"), [Some(1234)]);
    assert_eq!(server.offsets("/valid"), []);
    assert_eq!(files(folder.path()), WHOLE);
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn a_leftover_of_something_else_is_thrown_away() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    fs::write(folder.path().join("toys/train.txt.part"), "something else").unwrap();
    fs::write(
        folder.path().join("toys/valid.txt.part"),
        "longer than the file that it should become",
    )
    .unwrap();
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/train"), [Some(14), None]);
    assert_eq!(server.offsets("/valid"), [None]);
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn a_server_without_ranges_starts_over() {
    let server = Server::start(|path, before| match (path, before) {
        ("/train", 0) => Reply::CutAfter(100_000, right(path)),
        _ => Reply::IgnoringRange(right(path)),
    });
    let (_folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/train").len(), 2);
    assert!(server.offsets("/train")[1].is_some());
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn an_unsatisfiable_range_starts_over() {
    let server = Server::start(|path, before| match (path, before) {
        ("/train", 0) => Reply::Status(416),
        _ => Reply::Good(right(path)),
    });
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    fs::write(folder.path().join("toys/train.txt.part"), &train().as_bytes()[..1234]).unwrap();
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/train"), [Some(1234), None]);
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn another_range_than_the_one_asked_for_is_not_appended() {
    let server = Server::start(|path, before| match (path, before) {
        ("/train", 0) => Reply::OtherRange(right(path)),
        _ => Reply::Good(right(path)),
    });
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    fs::write(folder.path().join("toys/train.txt.part"), &train().as_bytes()[..1234]).unwrap();
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/train"), [Some(1234), None]);
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn a_silent_server_is_left_and_the_transfer_goes_on() {
    let server = Server::start(|path, before| match (path, before) {
        ("/train", 0) => Reply::SilentAfter(50_000, right(path)),
        _ => Reply::Good(right(path)),
    });
    let (_folder, store) = store();
    let manifest = toy(&[server.url("")]);
    // Longer than a busy machine takes to answer, shorter than the server's silence.
    let options = FetchOptions { read_timeout: Duration::from_secs(2), ..quick() };
    store.fetch(&manifest, &options, &mut |_| {}).unwrap();
    assert!(server.offsets("/train")[1].is_some());
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn a_passing_fault_of_the_server_is_waited_out() {
    let server = Server::start(|path, before| match before {
        0 | 1 => Reply::Status(503),
        _ => Reply::Good(right(path)),
    });
    let (_folder, store) = store();
    let manifest = toy(&[server.url("")]);
    let mut retries = 0;
    store
        .fetch(&manifest, &quick(), &mut |event| {
            retries += usize::from(matches!(event, FetchEvent::Failed { retry: Some(_), .. }));
        })
        .unwrap();
    assert_eq!(retries, 6);
}

#[test]
fn addresses_are_tried_in_turn_and_wrong_bytes_are_dropped() {
    let server = Server::start(|path, _| {
        let mut bytes = right(path);
        match path.split('/').nth(1).unwrap() {
            "gone" => Reply::Status(404),
            "other" => {
                bytes[3] ^= 1;
                Reply::Good(bytes)
            }
            "longer" => {
                bytes.push(b'\n');
                Reply::EndAfter(bytes.len(), bytes)
            }
            "portal" => Reply::Good(b"<html>please log in</html>".to_vec()),
            "right" => Reply::Good(bytes),
            other => panic!("{other}"),
        }
    });
    let (folder, store) = store();
    let bases = ["/gone", "/other", "/longer", "/portal", "/right"].map(|base| server.url(base));
    let manifest = toy(&bases);
    fetch(&store, &manifest).unwrap();
    assert_eq!(files(folder.path()), WHOLE);
    store.load_manifest(&manifest).unwrap();
    for base in ["gone", "other", "longer", "portal", "right"] {
        assert_eq!(
            server.offsets(&format!("/{base}/train")),
            [None],
            "{base} is asked once, for the whole"
        );
    }
}

#[test]
fn a_second_address_completes_the_part_and_is_not_blamed() {
    let server = Server::start(|path, _| match path.split('/').nth(1).unwrap() {
        "bad" => Reply::EndAfter(7, b"<html> please log in".to_vec()),
        _ => Reply::Good(right(path)),
    });
    let (_folder, store) = store();
    let manifest = toy(&[server.url("/bad"), server.url("/good")]);
    fetch(&store, &manifest).unwrap();
    assert_eq!(server.offsets("/good/train"), [Some(7), None]);
    store.load_manifest(&manifest).unwrap();
}

#[test]
fn if_every_address_fails_the_error_lists_each_with_its_reason() {
    let server = Server::start(|path, _| match path.split('/').nth(1).unwrap() {
        "gone" => Reply::Status(404),
        "ill" => Reply::Status(500),
        "short" => Reply::EndAfter(10, right(path)),
        _ => Reply::Good(vec![b'x'; right(path).len()]),
    });
    let (folder, store) = store();
    // A port that nobody listens to.
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let bases = ["/gone", "/ill", "/short", "/other"].map(|base| server.url(base));
    let manifest = toy(&[&bases[..], std::slice::from_ref(&nobody)].concat());
    let err = fetch(&store, &manifest).unwrap_err();
    let message = err.to_string();
    for part in [
        "train.txt",
        "/gone/train: the server answers 404",
        "/ill/train: the server answers 500",
        "/short/train: the transfer ended after 10 of",
        "/other/train: the file has the SHA-256",
        &format!("{nobody}/train: "),
        "`anp data import DIR",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let DataError::Fetch { addresses, .. } = err else { panic!("{message}") };
    assert!(matches!(addresses[3].reason, FetchFailure::WrongChecksum { .. }));
    assert_eq!(server.offsets("/gone/train").len(), 1, "a missing file is not asked for again");
    assert_eq!(server.offsets("/ill/train").len(), 3);
    assert!(
        !files(folder.path()).iter().any(|name| name == "train.txt"),
        "{:?}",
        files(folder.path())
    );
}

#[test]
fn a_truncated_download_keeps_its_part_without_the_name() {
    let server = Server::start(|path, before| match before {
        0 => Reply::CutAfter(100_000, right(path)),
        _ => Reply::Status(404),
    });
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fetch(&store, &manifest).unwrap_err();
    assert_eq!(files(folder.path()), ["train.txt.part"]);
    let part = fs::read(folder.path().join("toys/train.txt.part")).unwrap();
    assert!(!part.is_empty() && train().as_bytes().starts_with(&part));
    assert!(matches!(store.load_manifest(&manifest), Err(DataError::Missing { .. })));
}

#[test]
fn a_damaged_file_is_replaced() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let (folder, store) = store();
    let manifest = toy(&[server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    fs::write(folder.path().join("toys/train.txt"), &train()[..100]).unwrap();
    assert_eq!(store.presence(&manifest), Presence::Damaged);
    fetch(&store, &manifest).unwrap();
    assert_eq!(store.presence(&manifest), Presence::Present);
}

#[test]
fn a_store_that_cannot_be_written_is_named() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let store = Store::locate(Some(&file.join("below")));
    let manifest = toy(&[server.url("")]);

    let err = fetch(&store, &manifest).unwrap_err();
    assert!(matches!(err, DataError::Write { .. }), "{err}");
    assert!(err.to_string().contains("below") && err.to_string().contains("--data-dir"), "{err}");
    assert_eq!(server.requests(), [], "nothing is downloaded that could not be kept");

    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("train.txt"), train()).unwrap();
    let err = store.import(&manifest, source.path()).unwrap_err();
    assert!(matches!(err, DataError::Write { .. }), "{err}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_not_blamed_on_the_address() {
    let server = Server::start(|path, _| Reply::Good(right(path)));
    let (folder, store) = store();
    let manifest = toy(&[server.url(""), server.url("")]);
    fs::create_dir(folder.path().join("toys")).unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("toys/train.txt.part")).unwrap();

    let err = fetch(&store, &manifest).unwrap_err();
    let DataError::Write { path, source } = &err else { panic!("{err}") };
    assert!(path.ends_with("toys/train.txt.part"), "{err}");
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(err.to_string().contains("make room"), "{err}");
    assert_eq!(server.requests().len(), 1, "no other address is asked");
}

// Imports
// -------------------------------------------------------------------------------------------------

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn plain_gz_and_xz_files_are_imported_under_any_known_name() {
    let (folder, store) = store();
    let manifest = toy(&[]);
    let source = tempfile::tempdir().unwrap();
    write(source.path().join("train.txt.xz"), xz(train().as_bytes()));
    write(source.path().join("toys-2/toy.valid.tokens.gz"), gz(VALID.as_bytes()));
    write(source.path().join("toys-2/test.txt"), TEST);
    // Of another data set: the name is right, the bytes are not.
    write(source.path().join("another/test.txt"), "something else\n");
    write(source.path().join("test.txt.gz"), gz(b"something else again\n"));

    let report = store.import(&manifest, source.path()).unwrap();
    assert!(report.is_complete() && report.found_any());
    assert_eq!(files(folder.path()), WHOLE);
    store.load_manifest(&manifest).unwrap();

    let again = store.import(&manifest, source.path()).unwrap();
    assert!(again.files.iter().all(|file| matches!(file.outcome, ImportOutcome::Whole)));
}

#[test]
fn wrong_files_are_reported_and_not_taken() {
    let (folder, store) = store();
    let manifest = toy(&[]);
    let source = tempfile::tempdir().unwrap();
    let packed = xz(train().as_bytes());
    let mut other = train().into_bytes();
    other[0] = b'T';
    write(source.path().join("a/train.txt.xz"), &packed[..packed.len() / 2]);
    write(source.path().join("b/train.txt"), &train()[..1000]);
    write(source.path().join("c/train.txt"), train() + "more\n");
    write(source.path().join("d/train.txt.gz"), gz(&other));
    write(source.path().join("e/train.txt.gz"), "not gzip");
    // Too deep: only the folder and those directly in it are looked at.
    write(source.path().join("f/g/train.txt"), train());

    let report = store.import(&manifest, source.path()).unwrap();
    assert!(!report.is_complete() && report.found_any());
    let ImportOutcome::NotFound { candidates } = &report.files[0].outcome else {
        panic!("{report:?}")
    };
    let kinds: Vec<&str> = candidates
        .iter()
        .map(|candidate| match candidate.mismatch {
            Mismatch::Unreadable(_) => "unreadable",
            Mismatch::TooShort { .. } => "short",
            Mismatch::TooLong { .. } => "long",
            Mismatch::Checksum { .. } => "other",
            _ => "new",
        })
        .collect();
    assert_eq!(kinds, ["unreadable", "short", "long", "other", "unreadable"]);
    assert_eq!(files(folder.path()), [""; 0]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let (_folder, store) = store();
    let err = store.import(&toy(&[]), Path::new("no such folder")).unwrap_err();
    assert!(err.to_string().contains("cannot read no such folder"), "{err}");
}

// What is there
// -------------------------------------------------------------------------------------------

#[test]
fn verify_says_of_every_file_what_is_wrong() {
    let (folder, store) = store();
    let manifest = toy(&[]);
    assert_eq!(store.presence(&manifest), Presence::Missing);
    write(folder.path().join("toys/train.txt"), train());
    assert_eq!(store.presence(&manifest), Presence::Incomplete);
    write(folder.path().join("toys/valid.txt"), "The cat saw\n");

    let found = store.verify(&manifest);
    assert!(matches!(found.files[0].state, FileState::Whole));
    assert!(matches!(found.files[1].state, FileState::Damaged(DataError::WrongChecksum { .. })));
    assert!(matches!(found.files[2].state, FileState::Missing));
    assert!(found.counts.is_none());

    write(folder.path().join("toys/valid.txt"), VALID);
    write(folder.path().join("toys/test.txt"), TEST);
    assert!(matches!(store.verify(&manifest).counts, Some(Ok(()))));

    let mut wrong = manifest.clone();
    wrong.files[2].tokens += 1;
    let message = store.verify(&wrong).counts.unwrap().unwrap_err().to_string();
    assert!(message.contains("the test split of `toy` has 4 tokens instead of 5"), "{message}");
}

#[test]
fn unusable_files_of_a_user_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let [train, valid, test] =
        ["my.train", "my.valid", "my.test"].map(|name| folder.path().join(name));
    let load = || Corpus::from_files(&train, &valid, &test);

    assert!(load().unwrap_err().to_string().contains("my.train"), "missing");
    fs::write(&train, "a b\n").unwrap();
    fs::write(&valid, "a\n").unwrap();
    fs::write(&test, "b\n").unwrap();
    assert_eq!(load().unwrap().test.len(), 2);

    fs::write(&valid, "").unwrap();
    let message = load().unwrap_err().to_string();
    assert!(message.contains("my.valid holds no words (0 bytes)"), "{message}");

    fs::write(&valid, b"a\nb\na \xe9t\xe9\n").unwrap();
    let message = load().unwrap_err().to_string();
    assert!(message.contains("my.valid is not UTF-8: the byte at offset 6 (line 3)"), "{message}");

    fs::write(&valid, "a\nc b\n").unwrap();
    let message = load().unwrap_err().to_string();
    assert!(message.contains("`c` in line 2") && message.contains("my.valid"), "{message}");
}

// The real corpora
// ----------------------------------------------------------------------------------------

/// Load a real corpus from `ANP_DATA_DIR`, or say aloud that the test is skipped.
fn real(name: &str) -> Option<Corpus> {
    let skipped = |why: &str| {
        // Not `eprintln!`, which the test harness keeps to itself if the test passes.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: {name} was not checked: {why}").unwrap();
        None
    };
    if env::var_os("ANP_DATA_DIR").is_none() {
        return skipped("ANP_DATA_DIR is not set");
    }
    let store = Store::locate(None);
    match store.presence(&manifest(name).unwrap()) {
        Presence::Missing => skipped(&format!("it is not in {}", store.root().display())),
        _ => Some(store.load(name).unwrap()),
    }
}

#[test]
fn penn_treebank_has_its_published_counts() {
    let Some(corpus) = real("penn_treebank") else { return };
    assert_eq!(
        (corpus.train.len(), corpus.valid.len(), corpus.test.len()),
        (929_589, 73_760, 82_430)
    );
    assert_eq!(corpus.vocabulary.len(), 10_000);
    // The most frequent types of Mikolov's split, as every implementation finds them.
    assert_eq!(corpus.vocabulary.words()[..5], ["the", "<unk>", "<eos>", "N", "of"]);
}

#[test]
fn wikitext_2_has_its_published_counts() {
    let Some(corpus) = real("wikitext_2") else { return };
    assert_eq!(
        (corpus.train.len(), corpus.valid.len(), corpus.test.len()),
        (2_088_628, 217_646, 245_569)
    );
    assert_eq!(corpus.vocabulary.len(), 33_278);
}
