//! Text to token ids.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::manifest::Split;

/// The token that ends every line.
pub const EOS: &str = "<eos>";

/// The token that stands for words outside the vocabulary.
pub const UNK: &str = "<unk>";

/// The types of a training text and their ids.
///
/// Ids run from 0 by descending count in the training text; types with the same count stand in the
/// order of their first appearance. So the ids are a function of the text alone, and a frequent
/// word has a small id. [`EOS`] is a type like any other and is counted once per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// Count the tokens of a training text.
    ///
    /// # Panics
    ///
    /// If the text has 2³² types or more.
    pub fn from_training_text(text: &str) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut words: Vec<&str> = Vec::new();
        for token in tokens(text) {
            let count = counts.entry(token).or_insert(0);
            if *count == 0 {
                words.push(token);
            }
            *count += 1;
        }
        // The sort is stable, so equal counts keep the order of first appearance.
        words.sort_by_key(|word| std::cmp::Reverse(counts[word]));

        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let id = |index: usize| u32::try_from(index).expect("fewer than 2³² types");
        let ids = words.iter().enumerate().map(|(index, word)| (word.clone(), id(index))).collect();
        Self { words, ids }
    }

    /// Number of types, [`EOS`] counted: the size of a softmax over them.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are no types.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The id of `word`, if it is in the vocabulary.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.ids.get(word).copied()
    }

    /// The word with this id, if there is one.
    pub fn word(&self, id: u32) -> Option<&str> {
        self.words.get(usize::try_from(id).ok()?).map(String::as_str)
    }

    /// All words, by id.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// Three streams of token ids over one vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    /// The types of the training split.
    pub vocabulary: Vocabulary,
    /// Training tokens, in the order of the text.
    pub train: Vec<u32>,
    /// Validation tokens.
    pub valid: Vec<u32>,
    /// Test tokens.
    pub test: Vec<u32>,
}

impl Corpus {
    /// A corpus without meaning: `tokens` words for training, validation and test, from a
    /// vocabulary of this size and, as in a real text, mostly frequent ones.
    pub fn made_up(vocabulary: usize, tokens: [usize; 3]) -> Self {
        let words: Vec<String> = (0..vocabulary).map(|id| id.to_string()).collect();
        let ids = words.iter().cloned().zip(0..).collect();
        let text = |len: usize| {
            // The golden ratio spreads the fractions evenly; their fourth powers are mostly small.
            let fraction = |index: usize| (index as f64 * 0.618_033_988_749_895).fract();
            let id = |index| (vocabulary as f64 * fraction(index).powi(4)) as u32;
            (0..len).map(id).collect()
        };
        let [train, valid, test] = tokens.map(text);
        Self { vocabulary: Vocabulary { words, ids }, train, valid, test }
    }

    /// Read a corpus from three UTF-8 files, a sentence (or paragraph) per line, words separated by
    /// white space.
    ///
    /// The vocabulary comes from `train` alone; a word of the other two that is not in it becomes
    /// [`UNK`].
    ///
    /// # Errors
    ///
    /// [`DataError::Read`], [`DataError::InvalidUtf8`], [`DataError::Empty`], or
    /// [`DataError::NoUnk`] if a word is unknown and the training text has no [`UNK`].
    pub fn from_files(
        train: impl AsRef<Path>,
        valid: impl AsRef<Path>,
        test: impl AsRef<Path>,
    ) -> Result<Self, DataError> {
        let read = |path: &Path| fs::read(path).map_err(DataError::read(path));
        let paths = [train.as_ref(), valid.as_ref(), test.as_ref()];
        let [train, valid, test] = [read(paths[0])?, read(paths[1])?, read(paths[2])?];
        Self::from_bytes([(paths[0], &train), (paths[1], &valid), (paths[2], &test)])
    }

    /// The same for texts in memory; errors call them `train`, `valid` and `test`.
    ///
    /// # Errors
    ///
    /// [`DataError::Empty`] or [`DataError::NoUnk`], as [`from_files`](Self::from_files).
    pub fn from_texts(train: &str, valid: &str, test: &str) -> Result<Self, DataError> {
        Self::from_bytes([
            (Path::new("train"), train.as_bytes()),
            (Path::new("valid"), valid.as_bytes()),
            (Path::new("test"), test.as_bytes()),
        ])
    }

    /// Train, valid and test, each with the path that errors name.
    pub(super) fn from_bytes(files: [(&Path, &[u8]); 3]) -> Result<Self, DataError> {
        let [train, valid, test] = [text(files[0])?, text(files[1])?, text(files[2])?];
        let vocabulary = Vocabulary::from_training_text(train);
        Ok(Self {
            train: encode(&vocabulary, files[0].0, train)?,
            valid: encode(&vocabulary, files[1].0, valid)?,
            test: encode(&vocabulary, files[2].0, test)?,
            vocabulary,
        })
    }

    /// The tokens of `split`.
    pub fn split(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.train,
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }
}

/// The words of each line, then [`EOS`].
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split_whitespace().chain([EOS]))
}

/// The text of a file that is UTF-8 and holds a word.
fn text<'a>((path, bytes): (&Path, &'a [u8])) -> Result<&'a str, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|source| DataError::InvalidUtf8 {
        path: path.to_owned(),
        offset: source.valid_up_to(),
        line: 1 + bytes[..source.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count(),
    })?;
    if text.trim().is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), bytes: bytes.len() });
    }
    Ok(text)
}

/// The ids of a text's tokens.
fn encode(vocabulary: &Vocabulary, path: &Path, text: &str) -> Result<Vec<u32>, DataError> {
    let unk = vocabulary.id(UNK);
    let mut ids = Vec::with_capacity(text.len() / 5);
    for (index, line) in text.lines().enumerate() {
        for token in line.split_whitespace().chain([EOS]) {
            let id = vocabulary.id(token).or(unk).ok_or_else(|| DataError::NoUnk {
                word: token.to_owned(),
                path: PathBuf::from(path),
                line: index + 1,
            })?;
            ids.push(id);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_count_and_then_the_first_appearance() {
        let corpus =
            Corpus::from_texts(" the cat saw the <unk> \n\nthe dog\n", "the cat\n", "dog").unwrap();
        // the 3, <eos> 3 (later), cat saw <unk> dog 1 each
        assert_eq!(corpus.vocabulary.words(), ["the", EOS, "cat", "saw", UNK, "dog"]);
        assert_eq!(corpus.train, [0, 2, 3, 0, 4, 1, 1, 0, 5, 1]);
        assert_eq!(corpus.valid, [0, 2, 1]);
        assert_eq!(corpus.test, [5, 1], "a last line without a line feed is a line");
    }

    #[test]
    fn words_and_ids_are_each_others_inverse() {
        let vocabulary = Vocabulary::from_training_text("a b a c <unk>\n");
        for (id, word) in (0..).zip(vocabulary.words()) {
            assert_eq!((vocabulary.id(word), vocabulary.word(id)), (Some(id), Some(word.as_str())));
        }
        assert_eq!((vocabulary.len(), vocabulary.id("d"), vocabulary.word(5)), (5, None, None));
    }

    #[test]
    fn an_unknown_word_becomes_unk() {
        let corpus = Corpus::from_texts("a <unk>\n", "a zebra\n", "zebra a\n").unwrap();
        let unk = corpus.vocabulary.id(UNK).unwrap();
        assert_eq!((corpus.valid[1], corpus.test[0]), (unk, unk));
        assert_eq!(corpus.vocabulary.id("zebra"), None, "only the training split decides");
    }

    #[test]
    fn a_carriage_return_is_white_space() {
        let unix = Corpus::from_texts("a b\nb\n", "a\n", "b\n").unwrap();
        assert_eq!(Corpus::from_texts("a b\r\nb\r\n", "a\r\n", "b\r\n").unwrap(), unix);
    }

    #[test]
    fn without_unk_an_unknown_word_is_an_error_that_says_where() {
        let err = Corpus::from_texts("a b\n", "a\nb zebra\n", "a\n").unwrap_err();
        let message = err.to_string();
        assert!(message.contains("`zebra`") && message.contains("line 2 of valid"), "{message}");
        assert!(Corpus::from_texts("a b\n", "a\nb\n", "a\n").is_ok(), "nobody needs it here");
    }

    #[test]
    fn a_text_without_words_is_refused() {
        for blank in ["", "\n \n\t\n"] {
            let message = Corpus::from_texts("a\n", "a\n", blank).unwrap_err().to_string();
            assert!(message.starts_with("test "), "{message}");
        }
    }

    #[test]
    fn invalid_utf8_is_reported_with_its_place() {
        let files = [
            (Path::new("train"), &b"a\nb \xff\n"[..]),
            (Path::new("v"), b"a"),
            (Path::new("t"), b"a"),
        ];
        match Corpus::from_bytes(files).unwrap_err() {
            DataError::InvalidUtf8 { path, offset, line } => {
                assert_eq!((path.as_path(), offset, line), (Path::new("train"), 4, 2));
            }
            other => panic!("{other}"),
        }
    }
}
