//! Opening compressed bodies, never into more than a body may be.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::{self, zstd_sys::ZSTD_ErrorCode};

/// Header of a reject that is kept as it was sent: how it was compressed.
pub const CONTENT_ENCODING: &str = "content_encoding";

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952, several members in a row included.
    Gzip,
    /// RFC 8878, several frames in a row included.
    Zstd,
}

/// Why a body could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It holds more than a body may.
    #[error("it opens to more than a body may hold")]
    TooLarge,
    /// It is cut short, followed by something else, or not compressed so at all.
    #[error("it is cut short, damaged, or not compressed so at all")]
    Broken,
}

impl Encoding {
    /// The coding that HTTP has this name for.
    pub fn named(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("zstd").then_some(Self::Zstd)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Opens all of `received`, at most `bytes_max`, in a single pass into one buffer: so a window of
    /// zstd costs nothing, whatever a header asks for.
    pub fn open(self, received: &[u8], bytes_max: usize) -> Result<Vec<u8>, OpenError> {
        let mut opened = match self {
            Self::Gzip => open_gzip(received, bytes_max)?,
            Self::Zstd => open_zstd(received, bytes_max)?,
        };
        opened.shrink_to_fit();
        Ok(opened)
    }

    /// As much of `received` as opens, at most `bytes_max`: for a person who looks at what is broken.
    pub fn open_in_part(self, received: &[u8], bytes_max: usize) -> Vec<u8> {
        let mut opened = Vec::new();
        // What went wrong is known already; what came before it is in the buffer.
        let _ = match self {
            Self::Gzip => {
                limited(MultiGzDecoder::new(received), bytes_max).read_to_end(&mut opened)
            }
            Self::Zstd => zstd::stream::read::Decoder::new(received)
                .and_then(|decoder| limited(decoder, bytes_max).read_to_end(&mut opened)),
        };
        opened
    }
}

fn limited(reader: impl Read, bytes_max: usize) -> impl Read {
    reader.take(bytes_max as u64)
}

fn open_gzip(received: &[u8], bytes_max: usize) -> Result<Vec<u8>, OpenError> {
    // One byte more than allowed tells a body that is too large from one that just fits.
    let mut opened = Vec::with_capacity(bytes_max + 1);
    let read = limited(MultiGzDecoder::new(received), bytes_max + 1).read_to_end(&mut opened);
    if opened.len() > bytes_max {
        return Err(OpenError::TooLarge);
    }
    read.map(|_| opened).map_err(|_| OpenError::Broken)
}

fn open_zstd(received: &[u8], bytes_max: usize) -> Result<Vec<u8>, OpenError> {
    match zstd_safe::get_frame_content_size(received) {
        Err(_) => return Err(OpenError::Broken),
        Ok(Some(stated)) if stated > bytes_max as u64 => return Err(OpenError::TooLarge),
        Ok(_) => {}
    }
    let mut opened = Vec::with_capacity(bytes_max);
    match zstd_safe::decompress(&mut opened, received) {
        Ok(_) => Ok(opened),
        Err(code)
            if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) =>
        {
            Err(OpenError::TooLarge)
        }
        Err(_) => Err(OpenError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    fn packed(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::bulk::compress(bytes, 0).unwrap(),
        }
    }

    const BOTH: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

    #[test]
    fn a_body_opens_up_to_the_limit_and_not_a_byte_further() {
        for encoding in BOTH {
            for length in [0, 1, LIMIT] {
                let body = vec![b'x'; length];
                assert_eq!(encoding.open(&packed(encoding, &body), LIMIT), Ok(body));
            }
            let bomb = packed(encoding, &vec![b'x'; 10_000_000]);
            assert!(bomb.len() < 20_000, "{encoding:?}");
            assert_eq!(encoding.open(&bomb, LIMIT), Err(OpenError::TooLarge));
            let two = [packed(encoding, &[b'x'; 600]), packed(encoding, &[b'y'; 600])].concat();
            assert_eq!(encoding.open(&two, LIMIT), Err(OpenError::TooLarge), "the sum counts");
            assert_eq!(encoding.open(&two, 1200).unwrap().len(), 1200);
        }
    }

    #[test]
    fn a_bomb_that_does_not_state_its_size_is_no_larger_a_problem() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(25).unwrap();
        encoder.write_all(&vec![b'x'; 5_000_000]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(matches!(zstd_safe::get_frame_content_size(&bomb), Ok(None)));
        assert_eq!(Encoding::Zstd.open(&bomb, LIMIT), Err(OpenError::TooLarge));
    }

    #[test]
    fn what_is_broken_is_told_and_a_person_sees_what_opens() {
        for encoding in BOTH {
            let whole = packed(encoding, b"{\"id\":\"a\"}");
            let followed = [&whole[..], b"trailing"].concat();
            for broken in [&whole[..whole.len() - 1], &followed, b"{\"id\":\"a\"}"] {
                assert_eq!(encoding.open(broken, LIMIT), Err(OpenError::Broken), "{encoding:?}");
            }
            assert_eq!(encoding.open_in_part(&followed, LIMIT), b"{\"id\":\"a\"}");
        }
    }

    #[test]
    fn names_are_those_of_http_in_any_case() {
        assert_eq!(Encoding::named("X-GZip"), Some(Encoding::Gzip));
        assert_eq!(Encoding::named("ZSTD"), Some(Encoding::Zstd));
        for other in ["", "br", "deflate", "gzip, gzip", "identity"] {
            assert_eq!(Encoding::named(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_open_to_more_than_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for encoding in BOTH {
                if let Ok(opened) = encoding.open(&bytes, LIMIT) {
                    prop_assert!(opened.len() <= LIMIT);
                }
                let body = packed(encoding, &bytes);
                prop_assert_eq!(encoding.open(&body, LIMIT), Ok(bytes.clone()));
            }
        }
    }
}
