//! A token stream cut into parallel streams and windows, as every language model of the tables reads it.

use std::sync::Arc;

use anp_models::LmState;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// One back-propagation window.
#[derive(Debug, Clone)]
pub struct Window {
    /// `[seq_length, batch_size]`.
    pub inputs: Tensor<2, Int>,
    /// The inputs, one step later: `[seq_length, batch_size]`.
    pub targets: Tensor<2, Int>,
}

impl Window {
    /// Number of predicted tokens.
    pub fn num_tokens(&self) -> usize {
        let [seq_length, batch_size] = self.targets.dims();
        seq_length * batch_size
    }
}

/// What happens to the steps that do not fill a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// They are left out, as in training and in validation with the training batch size.
    Drop,
    /// They make a last, shorter window, as in the single-stream test.
    Keep,
}

/// Where a window lies in the streams, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First step of the inputs.
    pub start: usize,
    /// Number of steps.
    pub steps: usize,
    /// The same before the end of the text cut them.
    pub drawn: usize,
}

/// A text too short to be cut as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a text of {num_tokens} tokens is too short for {batch_size} streams with windows of {bptt}; \
     lower data.batch_size or data.bptt"
)]
pub struct TextTooShort {
    num_tokens: usize,
    batch_size: usize,
    bptt: usize,
}

/// A text cut into `batch_size` contiguous streams (tokens that do not fill all are left out), read side
/// by side in windows of `bptt` steps, in order.
#[derive(Debug, Clone)]
pub struct TokenStreams {
    /// Time-first: token `t` of stream `b` is at `t · batch_size + b`.
    tokens: Vec<i32>,
    batch_size: usize,
    bptt: usize,
    tail: Tail,
}

impl TokenStreams {
    /// Cut `text`.
    ///
    /// # Errors
    ///
    /// [`TextTooShort`] if there is not one window: a stream needs `bptt + 1` tokens, or 2 with [`Tail::Keep`].
    ///
    /// # Panics
    ///
    /// If `batch_size` or `bptt` is 0, or a token is above `i32::MAX`.
    pub fn new(
        text: &[u32],
        batch_size: usize,
        bptt: usize,
        tail: Tail,
    ) -> Result<Self, TextTooShort> {
        assert!(batch_size > 0 && bptt > 0, "batch_size and bptt must be positive");
        let length = text.len() / batch_size;
        let shortest = match tail {
            Tail::Drop => bptt + 1,
            Tail::Keep => 2,
        };
        if length < shortest {
            return Err(TextTooShort { num_tokens: text.len(), batch_size, bptt });
        }
        let tokens = (0..length)
            .flat_map(|t| (0..batch_size).map(move |b| text[b * length + t]))
            .map(|token| i32::try_from(token).expect("a token fits 31 bits"))
            .collect();
        Ok(Self { tokens, batch_size, bptt, tail })
    }

    /// Number of parallel streams.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number of windows.
    pub fn num_windows(&self) -> usize {
        match self.tail {
            Tail::Drop => self.num_steps() / self.bptt,
            Tail::Keep => self.num_steps().div_ceil(self.bptt),
        }
    }

    /// Number of tokens predicted in one pass.
    pub fn num_tokens(&self) -> usize {
        let steps = match self.tail {
            Tail::Drop => self.num_windows() * self.bptt,
            Tail::Keep => self.num_steps(),
        };
        steps * self.batch_size
    }

    /// Window `index` (from 0) on `device`.
    ///
    /// # Panics
    ///
    /// If there is no such window.
    pub fn window(&self, index: usize, device: &Device) -> Window {
        assert!(index < self.num_windows(), "window {index} of {}", self.num_windows());
        self.window_with(self.span(index * self.bptt, self.bptt), device, |_, _| {})
    }

    /// All windows of one pass, in order.
    pub fn spans(&self) -> Vec<Span> {
        (0..self.num_windows()).map(|index| self.span(index * self.bptt, self.bptt)).collect()
    }

    /// Windows of other lengths, in order: the one of index `i` has `length(i)` steps.
    ///
    /// The last is as long as the text lets it, whatever the [`Tail`], and left out where that is a single step: so does the
    /// code of AWD-LSTM.
    pub fn spans_of_lengths(&self, length: impl Fn(usize) -> usize) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut start = 0;
        while start + 1 < self.num_steps() {
            let span = self.span(start, length(spans.len()));
            start += span.steps;
            spans.push(span);
        }
        spans
    }

    fn span(&self, start: usize, drawn: usize) -> Span {
        Span { start, steps: drawn.min(self.num_steps() - start), drawn }
    }

    /// The window at `span` on `device` after `change` had a look at its inputs and targets, step by step.
    ///
    /// # Panics
    ///
    /// If the span goes beyond the text.
    pub fn window_with(
        &self,
        span: Span,
        device: &Device,
        change: impl FnOnce(&mut [i32], &mut [i32]),
    ) -> Window {
        let Span { start, steps, drawn: _ } = span;
        let cut = |first: usize| {
            self.tokens[first * self.batch_size..(first + steps) * self.batch_size].to_vec()
        };
        let (mut inputs, mut targets) = (cut(start), cut(start + 1));
        change(&mut inputs, &mut targets);
        let tensor = |tokens: Vec<i32>| {
            Tensor::from_data(TensorData::new(tokens, [steps, self.batch_size]), device)
        };
        Window { inputs: tensor(inputs), targets: tensor(targets) }
    }

    /// Steps that have a successor.
    fn num_steps(&self) -> usize {
        self.tokens.len() / self.batch_size - 1
    }
}

/// A window and the state it starts from.
#[derive(Debug, Clone)]
pub struct LmBatch {
    /// The tokens.
    pub window: Window,
    /// State carried from the window before, cut from its graph; `None` at the start of a text.
    pub state: Option<LmState>,
}

/// Burn's data loader over [`TokenStreams`]; an item is a window, in order, without a carried state.
#[derive(Debug, Clone)]
pub struct WindowLoader {
    streams: Arc<TokenStreams>,
    first: usize,
    end: usize,
    device: Device,
}

impl WindowLoader {
    /// All windows of `streams`, made on `device`.
    pub fn new(streams: Arc<TokenStreams>, device: Device) -> Self {
        let end = streams.num_windows();
        Self { streams, first: 0, end, device }
    }

    /// The text behind the loader.
    pub fn streams(&self) -> &TokenStreams {
        &self.streams
    }
}

impl DataLoader<LmBatch> for WindowLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LmBatch> + 'a> {
        Box::new(WindowIterator { loader: self, next: self.first })
    }

    fn num_items(&self) -> usize {
        self.end - self.first
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<LmBatch>> {
        Arc::new(Self { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<LmBatch>> {
        let end = (self.first + end).min(self.end);
        Arc::new(Self { first: (self.first + start).min(end), end, ..self.clone() })
    }
}

struct WindowIterator<'a> {
    loader: &'a WindowLoader,
    next: usize,
}

impl Iterator for WindowIterator<'_> {
    type Item = Result<LmBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.loader.end {
            return None;
        }
        let window = self.loader.streams.window(self.next, &self.loader.device);
        self.next += 1;
        Some(Ok(LmBatch { window, state: None }))
    }
}

impl DataLoaderIterator<LmBatch> for WindowIterator<'_> {
    fn progress(&self) -> Progress {
        let done = self.next - self.loader.first;
        Progress::new(done, self.loader.num_items(), Some("windows".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tensor: Tensor<2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn streams_are_contiguous_and_targets_are_one_step_later() {
        let text: Vec<u32> = (0..23).collect();
        let streams = TokenStreams::new(&text, 3, 2, Tail::Drop).unwrap();
        // Three streams of seven tokens, 0.., 7.., 14..; tokens 21 and 22 fill no stream.
        assert_eq!(streams.num_windows(), 3);
        assert_eq!(streams.num_tokens(), 18);
        let window = streams.window(1, &Device::default());
        assert_eq!(rows(window.inputs), [2, 9, 16, 3, 10, 17]);
        assert_eq!(rows(window.targets), [3, 10, 17, 4, 11, 18]);
    }

    #[test]
    fn a_single_stream_that_keeps_its_tail_predicts_every_token_but_the_first() {
        let text: Vec<u32> = (0..12).collect();
        let streams = TokenStreams::new(&text, 1, 4, Tail::Keep).unwrap();
        assert_eq!((streams.num_windows(), streams.num_tokens()), (3, 11));
        let last = streams.window(2, &Device::default());
        assert_eq!(last.num_tokens(), 3);
        assert_eq!(rows(last.targets), [9, 10, 11]);
    }

    #[test]
    fn penn_treebank_has_the_published_number_of_steps() {
        let text = vec![0; 929_589];
        for (batch_size, bptt, windows) in [(20, 35, 1327), (20, 20, 2323)] {
            let streams = TokenStreams::new(&text, batch_size, bptt, Tail::Drop).unwrap();
            assert_eq!(streams.num_windows(), windows);
        }
        let test = TokenStreams::new(&text[..82_430], 1, 35, Tail::Keep).unwrap();
        assert_eq!(test.num_tokens(), 82_429);
    }

    /// What a window does not reach is the next one's, and of the last only a single step is left out.
    #[test]
    fn windows_of_any_length_cover_the_text() {
        let text: Vec<u32> = (0..24).collect();
        // Two streams of 12 tokens: 11 steps with a successor.
        let streams = TokenStreams::new(&text, 2, 4, Tail::Drop).unwrap();
        let span = |start, steps, drawn| Span { start, steps, drawn };
        assert_eq!(
            streams.spans_of_lengths(|index| [5, 3, 7][index]),
            [span(0, 5, 5), span(5, 3, 3), span(8, 3, 7)]
        );
        assert_eq!(streams.spans_of_lengths(|_| 5), [span(0, 5, 5), span(5, 5, 5)]);
        assert_eq!(streams.spans(), [span(0, 4, 4), span(4, 4, 4)]);
        let last = streams.window_with(span(8, 3, 7), &Device::default(), |_, _| {});
        assert_eq!(rows(last.inputs), [8, 20, 9, 21, 10, 22]);
        assert_eq!(rows(last.targets), [9, 21, 10, 22, 11, 23]);
    }

    #[test]
    fn a_text_without_one_window_is_refused() {
        let err = TokenStreams::new(&[1; 20], 5, 4, Tail::Drop).unwrap_err();
        assert!(err.to_string().contains("20 tokens"), "{err}");
        assert!(TokenStreams::new(&[1; 25], 5, 4, Tail::Drop).is_ok());
        assert!(TokenStreams::new(&[1], 1, 4, Tail::Keep).is_err());
        assert!(TokenStreams::new(&[1, 2], 1, 4, Tail::Keep).is_ok());
    }
}
