//! Decompresses bodies within a bound.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use zstd::zstd_safe::{self, zstd_sys::ZSTD_ErrorCode};

/// Header of a reject that is kept as received: the compression of its value.
pub const CONTENT_ENCODING: &str = "content_encoding";

/// Compression of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952, with one member or several in a row.
    Gzip,
    /// RFC 8878, with one frame or several in a row.
    Zstd,
}

/// The reason why a body could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The body decompresses to more bytes than allowed.
    #[error("it opens to more than a body may hold")]
    TooLarge,
    /// The body is cut short, has other bytes behind it, or is not compressed in this way.
    #[error("it is cut short, damaged, or not compressed so at all")]
    Broken,
}

impl Encoding {
    /// Returns the encoding with this name in HTTP, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("zstd").then_some(Self::Zstd)
    }

    /// Returns the name in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Decompresses all of `received` in a single pass into one buffer of at most `bytes_max`
    /// bytes. No window of zstd is allocated, whatever size a header asks for.
    pub fn open(self, received: &[u8], bytes_max: usize) -> Result<Vec<u8>, OpenError> {
        let mut opened = match self {
            Self::Gzip => open_gzip(received, bytes_max)?,
            Self::Zstd => open_zstd(received, bytes_max)?,
        };
        opened.shrink_to_fit();
        Ok(opened)
    }

    /// Decompresses as much of `received` as is readable, at most `bytes_max` bytes. A person can
    /// then look at a broken body.
    pub fn open_in_part(self, received: &[u8], bytes_max: usize) -> Vec<u8> {
        let mut opened = Vec::new();
        // The caller knows the error already. The buffer holds everything before the error.
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
    // One byte more than allowed distinguishes a body that is too large from a body that just fits.
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
