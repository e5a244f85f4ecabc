//! What is stored of a password: what our own hash looks like, and those that others have made.
//!
//! Decides which forms are understood, what each costs, and whether that is too much. Whoever comes from elsewhere is known by
//! the hash that they bring; at their first good login `password.rs` makes our own of it. It refuses to know whose it is, and to
//! begin with a hash before its cost is known: a stored row must not be able to hold a thread for an hour.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::{digest, pbkdf2};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The longest stored form, in bytes.
pub const LONGEST_STORED: usize = 1024;
/// The shortest hash that says whether a password is the right one, in bytes: 128 bits.
const SHORTEST_HASH: usize = 16;
/// The fewest bytes of a salt with which Argon2 can be run.
const SHORTEST_SALT: usize = argon2::MIN_SALT_LEN;
/// The longest, in bytes; beyond what any of the forms writes.
const LONGEST_HASH: usize = 128;
/// What bcrypt looks at of a password, in bytes; of a shorter one also the NUL that ends it.
const BCRYPT_SEES: usize = 72;
/// The rounds of ASP.NET Identity's second version, which does not write them down.
const IDENTITY_2_ROUNDS: u32 = 1000;

/// Base64 as others write it: padded or not, and with bits behind the last byte that mean nothing.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

/// What one evaluation may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Time at a core's nominal speed. A nominal one, so that the same hash is refused or taken on every machine.
    pub time: Duration,
    /// Memory, in KiB.
    pub memory: u64,
}

impl Cost {
    /// Whether this is no more than `bound`, in either respect.
    pub fn is_within(self, bound: Cost) -> bool {
        self.time <= bound.time && self.memory <= bound.memory
    }

    pub(super) fn of_argon2(memory: u32, iterations: u32) -> Cost {
        let walked = u128::from(memory) * u128::from(iterations);
        Cost { time: nominal(walked, 600), memory: u64::from(memory) }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of a core and {} KiB", self.time, self.memory)
    }
}

/// `count` steps of so many nanoseconds each.
fn nominal(count: u128, nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count.saturating_mul(nanos)).unwrap_or(u64::MAX))
}

/// A stored hash, taken apart.
pub(super) struct Stored {
    form: Form,
    hash: Vec<u8>,
}

enum Form {
    /// RFC 9106, in the PHC's string format.
    Argon2 { algorithm: Algorithm, version: Version, params: Params, salt: Vec<u8> },
    /// Provos and Mazières, in the modular format: `$2b$12$` and 53 characters.
    Bcrypt { cost: u32, salt: [u8; 16] },
    /// RFC 7914, in the PHC's string format.
    Scrypt { log_n: u8, r: u32, p: u32, salt: Vec<u8> },
    /// RFC 8018, in the PHC's string format, in passlib's modular one, or as ASP.NET Identity writes it.
    Pbkdf2 { digest: Digest, rounds: NonZeroU32, salt: Vec<u8> },
    /// ServiceStack's before its fifth version: the SHA-256 of the password and a salt behind it.
    SaltedSha256 { salt: Vec<u8> },
}

#[derive(Clone, Copy)]
enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    fn hmac(self) -> pbkdf2::Algorithm {
        match self {
            Digest::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Digest::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Digest::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    /// What one round yields, in bytes.
    fn length(self) -> usize {
        match self {
            Digest::Sha1 => 20,
            Digest::Sha256 => 32,
            Digest::Sha512 => 64,
        }
    }
}

impl Stored {
    /// Takes a stored form apart. Says nothing of its cost yet.
    ///
    /// # Errors
    /// One sentence for people, without the hash.
    pub(super) fn parse(text: &str) -> Result<Stored, String> {
        if text.len() > LONGEST_STORED {
            return Err(format!("it has more than {LONGEST_STORED} bytes"));
        }
        let Some(named) = text.strip_prefix('$') else { return Stored::identity(text) };
        let (name, rest) = named.split_once('$').ok_or("it names an algorithm and nothing else")?;
        let stored = match name {
            "argon2id" => Stored::argon2(Algorithm::Argon2id, rest)?,
            "argon2i" => Stored::argon2(Algorithm::Argon2i, rest)?,
            "2a" | "2b" | "2y" => Stored::bcrypt(rest)?,
            "scrypt" => Stored::scrypt(rest)?,
            "pbkdf2" | "pbkdf2-sha1" => Stored::pbkdf2(Digest::Sha1, rest)?,
            "pbkdf2-sha256" => Stored::pbkdf2(Digest::Sha256, rest)?,
            "pbkdf2-sha512" => Stored::pbkdf2(Digest::Sha512, rest)?,
            "servicestack-sha256" => Stored::salted(rest)?,
            _ => return Err("its algorithm is none that is understood here".to_owned()),
        };
        // bcrypt's last byte is never written down.
        let least = if matches!(stored.form, Form::Bcrypt { .. }) { 23 } else { SHORTEST_HASH };
        if !(least..=LONGEST_HASH).contains(&stored.hash.len()) {
            return Err(format!("its hash has {} bytes", stored.hash.len()));
        }
        Ok(stored)
    }

    /// `v=19$m=19456,t=2,p=1$salt$hash`. Before there was a version to write, it was 16.
    fn argon2(algorithm: Algorithm, rest: &str) -> Result<Stored, String> {
        let (version, rest) = match rest.strip_prefix("v=") {
            Some(rest) => rest.split_once('$').ok_or("it ends behind its version")?,
            None => ("16", rest),
        };
        let version = match (version, algorithm) {
            ("19", _) => Version::V0x13,
            ("16", Algorithm::Argon2i) => Version::V0x10,
            _ => return Err("it is of a version that is not understood here".to_owned()),
        };
        let [params, salt, hash] = parts(rest)?;
        let [memory, iterations, lanes] = numbers(params, ["m", "t", "p"])?;
        let hash = decode(hash)?;
        let params = Params::new(memory, iterations, lanes, Some(hash.len())).map_err(|error| error.to_string())?;
        let salt = decode(salt)?;
        if salt.len() < SHORTEST_SALT {
            return Err(format!("its salt has {} bytes", salt.len()));
        }
        Ok(Stored { form: Form::Argon2 { algorithm, version, params, salt }, hash })
    }

    /// `12$`, 22 characters of salt and 31 of hash.
    fn bcrypt(rest: &str) -> Result<Stored, String> {
        let (cost, rest) = rest.split_once('$').ok_or("it ends behind its cost")?;
        let cost = if cost.len() == 2 { number(cost)? } else { 0 };
        if !(4..=31).contains(&cost) || rest.len() != 53 || !rest.is_ascii() {
            return Err("it is not a cost of 04 to 31 and 53 characters".to_owned());
        }
        let decoded = |text| BCRYPT_BASE64.decode(text).map_err(|_| "it is not Base64".to_owned());
        let salt = decoded(&rest[..22])?.try_into().map_err(|_| "its salt has not 16 bytes".to_owned())?;
        Ok(Stored { form: Form::Bcrypt { cost, salt }, hash: decoded(&rest[22..])? })
    }

    /// `ln=16,r=8,p=1$salt$hash`.
    fn scrypt(rest: &str) -> Result<Stored, String> {
        let [params, salt, hash] = parts(rest)?;
        let [log_n, r, p] = numbers(params, ["ln", "r", "p"])?;
        let log_n = u8::try_from(log_n).ok().filter(|log_n| (1..=40).contains(log_n));
        let log_n = log_n.ok_or("its ln is not of 1 to 40")?;
        // RFC 7914 section 2: r * p < 2^30.
        if r == 0 || p == 0 || u64::from(r) * u64::from(p) >= 1 << 30 {
            return Err("its r and p are out of their range".to_owned());
        }
        Ok(Stored { form: Form::Scrypt { log_n, r, p, salt: decode(salt)? }, hash: decode(hash)? })
    }

    /// `i=600000,l=32$salt$hash`, or passlib's `600000$salt$hash`.
    fn pbkdf2(digest: Digest, rest: &str) -> Result<Stored, String> {
        let [params, salt, hash] = parts(rest)?;
        let hash = decode(hash)?;
        let rounds = match params.split_once(',') {
            None => number(params.strip_prefix("i=").unwrap_or(params))?,
            Some(_) => {
                let [rounds, length] = numbers(params, ["i", "l"])?;
                if usize::try_from(length).ok() != Some(hash.len()) {
                    return Err("its hash is not as long as it says".to_owned());
                }
                rounds
            }
        };
        let rounds = NonZeroU32::new(rounds).ok_or("it has no rounds")?;
        Ok(Stored { form: Form::Pbkdf2 { digest, rounds, salt: decode(salt)? }, hash })
    }

    /// `salt$hash`: both columns of that application, as they stand there.
    fn salted(rest: &str) -> Result<Stored, String> {
        let (salt, hash) = rest.split_once('$').ok_or("it has no salt or no hash")?;
        let (salt, hash) = (decode(salt)?, decode(hash)?);
        if hash.len() != digest::SHA256_OUTPUT_LEN {
            return Err("its hash is not one of SHA-256".to_owned());
        }
        Ok(Stored { form: Form::SaltedSha256 { salt }, hash })
    }

    /// What ASP.NET Identity writes, and ServiceStack since its fifth version: Base64 without a name, told by the first byte.
    fn identity(text: &str) -> Result<Stored, String> {
        let bytes = BASE64.decode(text).map_err(|_| "it neither begins with $ nor is Base64".to_owned())?;
        let short = || "it ends too early".to_owned();
        let (version, rest) = bytes.split_first().ok_or_else(short)?;
        let (digest, rounds, salt, hash) = match version {
            0 if rest.len() == 48 => (Digest::Sha1, IDENTITY_2_ROUNDS, &rest[..16], &rest[16..]),
            0 => return Err("it is of the second version and has not 16 bytes of salt and 32 of hash".to_owned()),
            1 => {
                let (head, rest) = rest.split_first_chunk::<12>().ok_or_else(short)?;
                let [prf, rounds, length] =
                    [0, 4, 8].map(|at| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
                let digest = match prf {
                    0 => Digest::Sha1,
                    1 => Digest::Sha256,
                    2 => Digest::Sha512,
                    _ => return Err("its function is none of HMAC-SHA1, SHA256 and SHA512".to_owned()),
                };
                let (salt, hash) =
                    usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length)).ok_or_else(short)?;
                if salt.len() < 16 || hash.len() < SHORTEST_HASH || hash.len() > LONGEST_HASH {
                    return Err("its salt or its hash is too short".to_owned());
                }
                (digest, rounds, salt, hash)
            }
            _ => return Err("its first byte is of no version that is understood here".to_owned()),
        };
        let rounds = NonZeroU32::new(rounds).ok_or("it has no rounds")?;
        Ok(Stored { form: Form::Pbkdf2 { digest, rounds, salt: salt.to_vec() }, hash: hash.to_vec() })
    }

    /// What one evaluation costs.
    pub(super) fn cost(&self) -> Cost {
        match &self.form {
            Form::Argon2 { params, .. } => Cost::of_argon2(params.m_cost(), params.t_cost()),
            Form::Bcrypt { cost, .. } => Cost { time: nominal(1 << cost, 60_000), memory: 4 },
            Form::Scrypt { log_n, r, p, .. } => {
                // In blocks of 128 bytes: a table of N * r, which is walked through p times, and p lanes of r.
                let (table, lanes) = (u128::from(*r) << log_n, u128::from(*r) * u128::from(*p));
                let memory = u64::try_from((table + lanes).div_ceil(8)).unwrap_or(u64::MAX);
                // Those lanes are filled and read by PBKDF2, which is what counts where N is small.
                let mixed = nominal(table.saturating_mul(u128::from(*p)), 320);
                Cost { time: mixed.saturating_add(nominal(lanes, 2_000)), memory }
            }
            Form::Pbkdf2 { digest, rounds, .. } => {
                let blocks = self.hash.len().div_ceil(digest.length()) as u128;
                let each = match digest {
                    Digest::Sha1 => 350,
                    Digest::Sha256 => 400,
                    Digest::Sha512 => 700,
                };
                Cost { time: nominal(u128::from(rounds.get()) * blocks, each), memory: 0 }
            }
            Form::SaltedSha256 { .. } => Cost { time: Duration::from_micros(1), memory: 0 },
        }
    }

    /// What Argon2 would be run with.
    pub(super) fn argon2_params(&self) -> Option<&Params> {
        match &self.form {
            Form::Argon2 { params, .. } => Some(params),
            _ => None,
        }
    }

    /// Whether it is what we would make now.
    pub(super) fn is_ours(&self, ours: &Params) -> bool {
        match &self.form {
            Form::Argon2 { algorithm: Algorithm::Argon2id, params, .. } => {
                let numbers = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost(), params.output_len());
                numbers(params) == numbers(ours)
            }
            _ => false,
        }
    }

    /// Whether this hash can tell `secret` from all others. What it cannot see of a password, it does not vouch for, and our own
    /// is not made of that.
    pub(super) fn sees_all_of(&self, secret: &Secret) -> bool {
        !matches!(self.form, Form::Bcrypt { .. }) || secret.expose().len() < BCRYPT_SEES
    }

    /// Whether this is the hash of `secret`. The work is done whatever the secret is.
    pub(super) fn matches(&self, secret: &Secret, memory: &mut Vec<Block>) -> Result<bool, String> {
        let mut found = Zeroizing::new(vec![0; self.hash.len()]);
        let bytes = secret.expose();
        // HMAC fills a key up with zeros, and bcrypt ends it with one: there a password with a NUL passes for one without.
        let ambiguous = match &self.form {
            Form::Argon2 { algorithm, version, params, salt } => {
                evaluate((*algorithm, *version, params), secret, salt, &mut found, memory)?;
                false
            }
            Form::Bcrypt { cost, salt } => {
                let mut key = Zeroizing::new(bytes[..bytes.len().min(BCRYPT_SEES)].to_vec());
                if key.len() < BCRYPT_SEES {
                    key.push(0);
                }
                found.copy_from_slice(&bcrypt::bcrypt(*cost, *salt, &key)[..23]);
                bytes.contains(&0)
            }
            Form::Scrypt { log_n, r, p, salt } => {
                let params = scrypt::Params::new(*log_n, *r, *p).map_err(|error| error.to_string())?;
                scrypt::scrypt(bytes, salt, &params, &mut found).map_err(|error| error.to_string())?;
                bytes.ends_with(&[0])
            }
            Form::Pbkdf2 { digest, rounds, salt } => {
                pbkdf2::derive(digest.hmac(), *rounds, salt, bytes, &mut found);
                bytes.ends_with(&[0])
            }
            Form::SaltedSha256 { salt } => {
                let mut context = digest::Context::new(&digest::SHA256);
                context.update(bytes);
                context.update(salt);
                found.copy_from_slice(context.finish().as_ref());
                false
            }
        };
        Ok(Secret::new(found.as_slice()).matches(&self.hash) && !ambiguous)
    }
}

/// One evaluation of Argon2 into `output`, in memory that the thread keeps.
pub(super) fn evaluate(
    (algorithm, version, params): (Algorithm, Version, &Params),
    secret: &Secret,
    salt: &[u8],
    output: &mut [u8],
    memory: &mut Vec<Block>,
) -> Result<(), String> {
    let blocks = params.block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    Argon2::new(algorithm, version, params.clone())
        .hash_password_into_with_memory(secret.expose(), salt, output, &mut memory[..blocks])
        .map_err(|error| error.to_string())
}

/// Parameters, salt and hash.
fn parts(text: &str) -> Result<[&str; 3], String> {
    let parts: Vec<&str> = text.split('$').collect();
    parts.try_into().map_err(|_| "it has not parameters, a salt and a hash".to_owned())
}

/// `a=1,b=2`, exactly these and in this order.
fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Result<[u32; N], String> {
    let complaint = || format!("its parameters are not {}", names.join(", "));
    let mut given = text.split(',');
    let mut numbers = [0; N];
    for (value, name) in numbers.iter_mut().zip(names) {
        let text = given.next().and_then(|given| given.strip_prefix(name)?.strip_prefix('=')).ok_or_else(complaint)?;
        *value = number(text)?;
    }
    if given.next().is_some() { Err(complaint()) } else { Ok(numbers) }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| "one of its numbers is none of 32 bits".to_owned())
}

/// Base64 without padding; passlib has `.` where the standard has `+`.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text.replace('.', "+")).map_err(|_| "its salt or its hash is not Base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(password: &str, stored: &str) -> bool {
        let stored = Stored::parse(stored).unwrap_or_else(|error| panic!("{stored}: {error}"));
        stored.matches(&Secret::new(password), &mut Vec::new()).expect("a comparison")
    }

    #[track_caller]
    fn check(password: &str, stored: &str) {
        assert!(matches(password, stored), "{password:?} is that of {stored}");
        for wrong in [format!("{password}x"), format!("x{password}"), String::new(), format!("{password}\0")] {
            let seen = &wrong.as_bytes()[..wrong.len().min(BCRYPT_SEES)];
            if wrong != password && !(stored.starts_with("$2") && password.as_bytes().starts_with(seen)) {
                assert!(!matches(&wrong, stored), "{wrong:?} is not that of {stored}");
            }
        }
    }

    #[test]
    fn argon2_as_its_reference_implementation_tests_it() {
        check("password", "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8");
        check("password", "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E");
        check("password", "$argon2i$v=19$m=65536,t=2,p=1$ZGlmZnNhbHQ$sDV8zPvvkfOGCw26RHsjSMvv7K2vmQq/6cxAcmxSEnE");
        // Before the version was written, and since.
        check("password", "$argon2i$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY");
        check("password", "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY");
        check("password", "$argon2i$m=256,t=2,p=2$c29tZXNhbHQ$tsEVYKap1h6scGt5ovl9aLRGOqOth+AMB+KwHpDFZPs");
        check("password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4");
    }

    #[test]
    fn bcrypt_as_its_implementations_test_it() {
        check("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.");
        check("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe");
        check("abcdefghijklmnopqrstuvwxyz", "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.");
        check("U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
        check("U*U*", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK");
        check("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a");
        let long = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        let stored = "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui";
        check(long, stored);
        check(&format!("{long}chars after 72 are ignored"), stored);
    }

    #[test]
    fn bcrypt_does_not_vouch_for_what_it_cannot_see() {
        let bcrypt = Stored::parse("$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui").expect("a hash");
        assert!(bcrypt.sees_all_of(&Secret::new("x".repeat(71))));
        assert!(!bcrypt.sees_all_of(&Secret::new("x".repeat(72))), "more may stand behind");
        let other = Stored::parse("$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q=").expect("a hash");
        assert!(other.sees_all_of(&Secret::new("x".repeat(200))));
        // The key is repeated with its NUL, so that without care this would be "a".
        assert!(!matches("a\0a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"));
    }

    #[test]
    fn scrypt_as_rfc_7914_and_passlib_have_it() {
        check("", "$scrypt$ln=4,r=1,p=1$$d9ZXYjhleyA7GcpCwYoEl/FrSETjB0ro39/6P+3iFEL80Aad7QlI+DJqdToPyB8X6NPg+y4NNijPNeIMONGJBg");
        check(
            "password",
            "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA",
        );
        check(
            "pleaseletmein",
            "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw",
        );
        check("password", "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E");
    }

    fn bytes_of(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
    }

    #[test]
    fn pbkdf2_as_rfc_6070_has_it() {
        // The fourth has 16,777,216 rounds and stands among those that are beyond the bound.
        for (password, salt, rounds, hash) in [
            ("password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
            ("password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
            ("password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1"),
            (
                "passwordPASSWORDpassword",
                "saltSALTsaltSALTsaltSALTsaltSALTsalt",
                4096,
                "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
            ),
            ("pass\0word", "sa\0lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3"),
        ] {
            let (salt, hash) = (BASE64.encode(salt), BASE64.encode(bytes_of(hash)));
            check(password, &format!("$pbkdf2-sha1$i={rounds}${salt}${hash}"));
        }
    }

    #[test]
    fn pbkdf2_as_passlib_tests_it() {
        let greek = "\u{399}\u{3c9}\u{3b1}\u{3bd}\u{3bd}\u{3b7}\u{3c2}";
        check("password", "$pbkdf2$1212$OB.dtnSEXZK8U5cgxU/GYQ$y5LKPOplRmok7CZp/aqVDVg8zGI");
        check(greek, "$pbkdf2$1212$THDqatpidANpadlLeTeOEg$HV3oi1k5C5LQCgG1BMOL.BX4YZc");
        check("password", "$pbkdf2-sha256$1212$4vjV83LKPjQzk31VI4E0Vw$hsYF68OiOUPdDZ1Fg.fJPeq1h/gXXY7acBp9/6c.tmQ");
        check(greek, "$pbkdf2-sha256$1212$3SABFJGDtyhrQMVt1uABPw$WyaUoqCLgvz97s523nF4iuOqZNbp5Nt8do/cuaa7AiI");
        let long = "eNLfBK.eVozomMr.1gYa17k9B7KIK25NOEshvhrSX.esqY3s.FvWZViXz4KoLlQI.BzY/YTNJOiKc5gBYFYGww";
        check("password", &format!("$pbkdf2-sha512$1212$RHY0Fr3IDMSVO/RSZyb5ow${long}"));
        check("password", &format!("$pbkdf2-sha512$i=1212,l=64$RHY0Fr3IDMSVO/RSZyb5ow${}", long.replace('.', "+")));
    }

    #[test]
    fn asp_net_identity_as_microsoft_tests_it() {
        for stored in [
            "AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJg==",
            "AQAAAAAAAAD6AAAAEAhftMyfTJylOlZT+eEotFXd1elee8ih5WsjXaR3PA9M",
            "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg+yWU7rLgUwPZb1Itsmra7cbxw2EFpwpVFIEtP+JIuUEw==",
            "AQAAAAEAA9CQAAAAIESkQuj2Du8Y+kbc5lcN/W/3NiAZFEm11P27nrSN5/tId+bR1SwV8CO1Jd72r4C08OLvplNlCDc3oQZ8efcW+jQ=",
            "AQAAAAIAAAAyAAAAEOMwvh3+FZxqkdMBz2ekgGhwQ4B6pZWND6zgESBuWiHw",
            concat!(
                "AQAAAAIAAAD6AAAAIJbVi5wbMR+htSfFp8fTw8N8GOS/Sje+S/4YZcgBfU7EQuqv4OkVYmc4VJl9AGZzmRTxSkP7LtVi9IWyUxX8",
                "IAAfZ8v+ZfhjCcudtC1YERSqE1OEdXLW9VukPuJWBBjLuw=="
            ),
            "AQAAAAIAACcQAAAAEAABAgMEBQYHCAkKCwwNDg9B0Oxwty+PGIDSp95gcCfzeDvA4sGapUIUov8usXfD6A==",
            "AQAAAAIAAYagAAAAEAABAgMEBQYHCAkKCwwNDg/Q8A0WMKbtHQJQ2DHCdoEeeFBrgNlldq6vH4qX/CGqGQ==",
        ] {
            check("my password", stored);
        }
        for wrong in [
            "AAABAgMEBQYHCAkKCwwNDg+uAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAALtH1uJg==",
            "AQAAAAAAAAD6AAAAEAhftMyfTJyAAAAAAAAAAAAAAAAAAAih5WsjXaR3PA9M",
        ] {
            assert!(!matches("my password", wrong), "{wrong}");
        }
        for (odd, why) in [
            ("AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggE=", "too short"),
            ("AAABAgMEBQYHCAkKCwwNDg+ukCEMDf0yyQ29NYubggHIVY0sdEUfdyeM+E1LtH1uJgAAAAAAAAAAAAA=", "more behind it"),
            ("AQAAAAIAAAAyAAAAEOMwvh3+FZxqkdMBz2ekgGhwQ4A=", "too short"),
        ] {
            assert!(Stored::parse(odd).is_err(), "{why}");
        }
    }

    #[test]
    fn servicestack_in_its_third_and_older_form() {
        check("p@55w,rd:1", "AQAAAAEAACcQAAAAEAABAgMEBQYHCAkKCwwNDg8MEcVEKt4ecR/YF/mYINH8m8S+hLwpYRIKZm/NePKWvQ==");
        check("p@55w,rd:1", "$servicestack-sha256$AQIDBA==$PgoZboViJJzz0pCK9ZVbUKnfYpIdXpOSZG7ugR9vR+Q=");
    }

    #[test]
    fn what_is_no_stored_form_is_told_so_without_the_hash() {
        let (salt, hash) = ("c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
        let identity = |bytes: &[u8]| BASE64.encode(bytes);
        let head = |prf: u8, rounds: u32, salt: u32| {
            let mut bytes = vec![1, 0, 0, 0, prf];
            bytes.extend(rounds.to_be_bytes());
            bytes.extend(salt.to_be_bytes());
            bytes.extend([7; 48]);
            identity(&bytes)
        };
        assert!(Stored::parse(&head(1, 1, 16)).is_ok());
        for odd in [
            String::new(),
            "plain".to_owned(),
            "$".to_owned(),
            "$$".to_owned(),
            "$argon2id".to_owned(),
            format!("$argon2d$v=19$m=64,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=16$m=64,t=1,p=1${salt}${hash}"),
            format!("$argon2i$v=18$m=64,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=64,t=1,p=1${salt}"),
            format!("$argon2id$v=19$m=64,t=1,p=1${salt}${hash}${hash}"),
            format!("$argon2id$v=19$t=1,m=64,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=64,t=1,p=1,keyid=AA${salt}${hash}"),
            format!("$argon2id$v=19$m=4294967296,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=+64,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=0,t=1,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=64,t=1,p=1${salt}$c2hvcnQ"),
            format!("$argon2id$v=19$m=64,t=1,p=1${salt}$"),
            format!("$argon2id$v=19$m=64,t=1,p=1${salt}${}", hash.repeat(100)),
            "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            "$2$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            "$2a$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            "$2a$32$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            "$2a$5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeWx".to_owned(),
            "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe".to_owned(),
            format!("$2a$05${}", "ü".repeat(53)),
            format!("$2a$05${}\u{fc}", "C".repeat(51)),
            format!("$scrypt$ln=0,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=64,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=256,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=4,r=0,p=1${salt}${hash}"),
            format!("$scrypt$ln=4,r=65536,p=65536${salt}${hash}"),
            format!("$pbkdf2-sha256$i=0${salt}${hash}"),
            format!("$pbkdf2-sha256$i=1,l=31${salt}${hash}"),
            format!("$pbkdf2-sha384$i=1${salt}${hash}"),
            format!("$pbkdf2-sha256$4294967296${salt}${hash}"),
            "$servicestack-sha256$AQIDBA==$PgoZ".to_owned(),
            "$servicestack-sha256$AQIDBA==".to_owned(),
            head(3, 1, 16),
            head(1, 0, 16),
            head(1, 1, 15),
            head(1, 1, 33),
            head(1, 1, u32::MAX),
            identity(&[2; 49]),
            identity(&[1, 0, 0]),
        ] {
            let error = Stored::parse(&odd).err().unwrap_or_else(|| panic!("{odd} is taken for one"));
            assert!(!error.contains(hash) && !error.contains("CCCC"), "{error}");
        }
    }

    #[test]
    fn what_a_hash_costs_is_known_before_it_is_begun() {
        let (salt, hash) = ("c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");
        let bound = Cost { time: Duration::from_secs(1), memory: 256 * 1024 };
        let within =
            |stored: &str| Stored::parse(stored).unwrap_or_else(|error| panic!("{stored}: {error}")).cost().is_within(bound);
        for usual in [
            format!("$argon2id$v=19$m=65536,t=3,p=4${salt}${hash}"),
            format!("$argon2i$v=19$m=262144,t=4,p=1${salt}${hash}"),
            "$2b$14$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            format!("$scrypt$ln=17,r=8,p=1${salt}${hash}"),
            format!("$pbkdf2-sha256$i=600000${salt}${hash}"),
            format!("$pbkdf2-sha512$i=210000${salt}${hash}"),
            format!("$pbkdf2-sha1$i=1300000${salt}$iekCn0Y3spW+sCcFanM2xBT63UP2"),
        ] {
            assert!(within(&usual), "{usual}");
        }
        for dear in [
            format!("$argon2i$v=19$m=4194304,t=1,p=1${salt}${hash}"),
            format!("$argon2i$v=19$m=4294967295,t=4294967295,p=1${salt}${hash}"),
            format!("$argon2id$v=19$m=64,t=4294967295,p=1${salt}${hash}"),
            "$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".to_owned(),
            format!("$scrypt$ln=22,r=8,p=1${salt}${hash}"),
            format!("$scrypt$ln=40,r=1073741823,p=1${salt}${hash}"),
            format!("$scrypt$ln=1,r=1,p=1073741823${salt}${hash}"),
            format!("$scrypt$ln=1,r=1,p=1560000${salt}${hash}"),
            format!("$pbkdf2-sha256$i=1000000000${salt}${hash}"),
            // RFC 6070's own.
            "$pbkdf2-sha1$i=16777216$c2FsdA$7v49Yc1NpORZSz1rom4hWMJjTpg".to_owned(),
        ] {
            assert!(!within(&dear), "{dear}");
        }
    }
}
