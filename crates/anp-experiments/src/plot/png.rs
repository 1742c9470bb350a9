//! PNG files. The `png` crate would change features of what Burn is built with, and with them
//! every build of the workspace.

use std::io::Write;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// Encode an image of 8 bits per channel, red, green and blue, row by row.
///
/// [Portable Network Graphics, third edition](https://www.w3.org/TR/png-3/), with one chunk of
/// data and no filters.
pub(super) fn encode(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let row = 3 * width as usize;
    assert_eq!(rgb.len(), row * height as usize, "three bytes per pixel");
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
    for pixels in rgb.chunks_exact(row) {
        packer.write_all(&[0]).expect("memory can be written to");
        packer.write_all(pixels).expect("memory can be written to");
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // 8 bits per channel, colour, and the only methods of compression, filtering and interlacing.
    header.extend([8, 2, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"IDAT", &packer.finish().expect("memory can be written to"));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a figure is small");
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    file.extend(length.to_be_bytes());
    file.extend(kind);
    file.extend(data);
    file.extend(crc.sum().to_be_bytes());
}
