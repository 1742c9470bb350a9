//! Counter-based seeds: the seed of every draw is a hash of what the draw is for.

use sha2::{Digest, Sha256};

/// What random numbers are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The first values of the parameters.
    Init,
    /// The dropout masks of a training step.
    Dropout,
    /// The replaced words of a training step.
    Noising,
    /// The order of the images of an epoch.
    Order,
    /// Crop and flip of an image.
    Augmentation,
    /// The dropout masks under which a trained model's activations are measured.
    Statistics,
    /// The length of a training window.
    WindowLength,
    /// The dropout masks or codes of a Monte-Carlo evaluation.
    MonteCarlo,
    /// The codes of a training step.
    Code,
    /// The items of an analysis, and its masks.
    Analysis,
}

/// The seed of step `step` of the run with `run_seed`.
///
/// A run that is continued draws what the uninterrupted run would have drawn, because nothing
/// depends on what was drawn before.
pub fn seed(run_seed: u64, purpose: Purpose, step: u64) -> u64 {
    let purpose: &[u8] = match purpose {
        Purpose::Init => b"init",
        Purpose::Dropout => b"dropout",
        Purpose::Noising => b"noising",
        Purpose::Order => b"order",
        Purpose::Augmentation => b"augmentation",
        Purpose::Statistics => b"statistics",
        Purpose::WindowLength => b"window length",
        Purpose::MonteCarlo => b"monte carlo",
        Purpose::Code => b"code",
        Purpose::Analysis => b"analysis",
    };
    let digest = Sha256::new()
        .chain_update(run_seed.to_le_bytes())
        .chain_update(step.to_le_bytes())
        .chain_update(purpose)
        .finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_run_purpose_and_step() {
        let mut seeds = Vec::new();
        for run in 0..3 {
            for purpose in [
                Purpose::Init,
                Purpose::Dropout,
                Purpose::Noising,
                Purpose::Order,
                Purpose::Augmentation,
                Purpose::Statistics,
                Purpose::WindowLength,
                Purpose::MonteCarlo,
                Purpose::Code,
                Purpose::Analysis,
            ] {
                seeds.extend((0..3).map(|step| seed(run, purpose, step)));
            }
        }
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 3 * 10 * 3);
    }

    /// A change here would make checkpoints and records of older builds those of other runs.
    #[test]
    fn seeds_never_change() {
        // int.from_bytes(hashlib.sha256(struct.pack("<QQ", 1, 2) + b"dropout").digest()[:8],
        // "little")
        assert_eq!(seed(1, Purpose::Dropout, 2), 5881992932672964048);
    }
}
