//! Valid tokens are accepted, and each known attack on JSON Web Tokens is refused.

use std::sync::OnceLock;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://uploads.example.com";

/// Two keys, made once: making them takes its time.
fn pems() -> &'static [SecretString; 2] {
    static PEMS: OnceLock<[SecretString; 2]> = OnceLock::new();
    PEMS.get_or_init(|| {
        [
            generate_signing_key_pem().unwrap(),
            generate_signing_key_pem().unwrap(),
        ]
    })
}

fn signer() -> TokenSigner {
    TokenSigner::from_pem(&pems()[0], ISSUER).unwrap()
}

fn strangers_signer() -> TokenSigner {
    TokenSigner::from_pem(&pems()[1], ISSUER).unwrap()
}

fn subject() -> Subject {
    Subject {
        user_id: UserId::new(),
        company_id: CompanyId::new(),
        role: Some(Role::Member),
        sign_in_id: Uuid::new_v4(),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    signer().verifier().unwrap().verify(token, now())
}

/// The claims of a good token, for a test to change.
fn claims() -> Value {
    let token = signer().issue(&subject(), now()).unwrap();
    serde_json::to_value(verify(&token.text).unwrap()).unwrap()
}

fn signed(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &signer().key).unwrap()
}

fn header() -> Header {
    Header {
        kid: Some(signer().key_id),
        ..Header::new(Algorithm::RS256)
    }
}

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn a_good_token_is_accepted_for_half_an_hour() {
    let (signer, subject) = (signer(), subject());
    let verifier = signer.verifier().unwrap();
    let token = signer.issue(&subject, now()).unwrap();
    let claims = verifier.verify(&token.text, now()).unwrap();
    assert_eq!(claims.sub, subject.user_id);
    assert_eq!(claims.company, subject.company_id);
    assert_eq!(claims.role, subject.role);
    assert_eq!(claims.sid, subject.sign_in_id);
    assert_eq!((claims.iss.as_str(), claims.aud.as_str()), (ISSUER, AUDIENCE));
    assert_eq!(token.expires_in_s, 1800);
    assert_eq!(token.expires_at.timestamp(), claims.exp);

    assert!(
        verifier
            .verify(&token.text, now() + TimeDelta::seconds(1799))
            .is_ok()
    );
    let at_its_end = verifier.verify(&token.text, now() + TimeDelta::seconds(1800));
    assert!(matches!(at_its_end, Err(TokenError::Expired)));
    assert!(
        verifier
            .verify(&token.text, now() - TimeDelta::seconds(5))
            .is_ok()
    );
    let too_early = verifier.verify(&token.text, now() - TimeDelta::seconds(6));
    assert!(matches!(too_early, Err(TokenError::NotYetValid)));
}

#[test]
fn a_strangers_signature_is_refused() {
    let token = strangers_signer().issue(&subject(), now()).unwrap().text;
    assert!(matches!(verify(&token), Err(TokenError::UnknownKey)));
    // The same, under the name of our key.
    let forged = jsonwebtoken::encode(&header(), &claims(), &strangers_signer().key).unwrap();
    assert!(matches!(verify(&forged), Err(TokenError::Invalid(_))));
}

#[test]
fn changed_claims_are_refused() {
    let token = signer().issue(&subject(), now()).unwrap().text;
    let [head, _, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let mut other = claims();
    other["role"] = json!("owner");
    let forged = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(other.to_string()));
    assert!(matches!(verify(&forged), Err(TokenError::Invalid(_))));
    for cut in ["", ".", "..", head, &token[..token.len() - 8]] {
        assert!(verify(cut).is_err(), "{cut}");
    }
}

#[test]
fn no_signature_is_refused() {
    for alg in ["none", "None", "NONE", ""] {
        let head = json!({"alg": alg, "typ": "JWT", "kid": signer().key_id});
        assert!(
            matches!(
                verify(&unsigned(&head, &claims(), "")),
                Err(TokenError::Invalid(_))
            ),
            "{alg}"
        );
    }
    let head = serde_json::to_value(header()).unwrap();
    assert!(matches!(
        verify(&unsigned(&head, &claims(), "")),
        Err(TokenError::Invalid(_))
    ));
}

#[test]
fn the_public_key_is_no_shared_secret() {
    let jwk = serde_json::to_value(signer().public_key()).unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    for secret in [jwk.to_string().into_bytes(), modulus, Vec::new()] {
        let head = Header {
            kid: Some(signer().key_id),
            ..Header::new(Algorithm::HS256)
        };
        let forged = jsonwebtoken::encode(&head, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert!(matches!(verify(&forged), Err(TokenError::Invalid(_))));
    }
}

#[test]
fn other_algorithms_of_our_own_key_are_refused() {
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let head = Header {
            alg: algorithm,
            ..header()
        };
        assert!(
            matches!(verify(&signed(&head, &claims())), Err(TokenError::Invalid(_))),
            "{algorithm:?}"
        );
    }
}

#[test]
fn a_key_in_the_token_is_refused_even_where_the_signature_is_ours() {
    let stranger = strangers_signer();
    let embedded = Header {
        jwk: Some(stranger.public_key.clone()),
        ..header()
    };
    let forged = jsonwebtoken::encode(&embedded, &claims(), &stranger.key).unwrap();
    assert!(matches!(
        verify(&forged),
        Err(TokenError::HeaderNotAllowed("jwk"))
    ));
    for (name, head) in [
        ("jwk", embedded),
        (
            "jku",
            Header {
                jku: Some("https://evil.example/keys".into()),
                ..header()
            },
        ),
        (
            "x5u",
            Header {
                x5u: Some("https://evil.example/cert".into()),
                ..header()
            },
        ),
        (
            "x5c",
            Header {
                x5c: Some(vec!["AAAA".into()]),
                ..header()
            },
        ),
        (
            "crit",
            Header {
                crit: Some(vec!["exp".into()]),
                ..header()
            },
        ),
    ] {
        let error = verify(&signed(&head, &claims())).unwrap_err();
        assert!(
            matches!(error, TokenError::HeaderNotAllowed(found) if found == name),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_token_must_name_a_known_key() {
    for kid in [None, Some(String::new()), Some("../../etc/passwd".to_owned())] {
        let head = Header { kid, ..header() };
        assert!(matches!(
            verify(&signed(&head, &claims())),
            Err(TokenError::UnknownKey)
        ));
    }
}

#[test]
fn a_token_for_somebody_else_is_refused() {
    for (claim, value) in [
        ("iss", json!("https://other.example.com")),
        ("aud", json!("another-service")),
        ("aud", json!(["another-service"])),
        ("sub", json!("admin")),
        ("exp", json!("9999999999")),
        ("exp", json!(1e300)),
    ] {
        let mut changed = claims();
        changed[claim] = value;
        assert!(
            matches!(verify(&signed(&header(), &changed)), Err(TokenError::Invalid(_))),
            "{claim}"
        );
    }
    for claim in ["iss", "aud", "sub", "exp", "nbf", "iat", "company", "sid", "jti"] {
        let mut changed = claims();
        changed.as_object_mut().unwrap().remove(claim);
        assert!(
            matches!(verify(&signed(&header(), &changed)), Err(TokenError::Invalid(_))),
            "no {claim}"
        );
    }
}

#[test]
fn tokens_of_the_previous_key_stay_valid_while_it_is_published() {
    let (present, previous) = (signer(), strangers_signer());
    let keys = [present.public_key().clone(), previous.public_key().clone()];
    let verifier = TokenVerifier::new(ISSUER, &keys).unwrap();
    for signer in [&present, &previous] {
        let token = signer.issue(&subject(), now()).unwrap();
        assert!(verifier.verify(&token.text, now()).is_ok());
    }
}

#[test]
fn published_keys_are_public() {
    let jwks = serde_json::to_value(signer().verifier().unwrap().jwks()).unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(key["kid"], signer().key_id);
    assert_eq!(
        (&key["alg"], &key["use"], &key["kty"]),
        (&json!("RS256"), &json!("sig"), &json!("RSA"))
    );
    let mut fields: Vec<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["alg", "e", "kid", "kty", "n", "use"]);
}

#[test]
fn only_rsa_private_keys_sign() {
    for pem in [
        "",
        "no pem",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert!(matches!(
            TokenSigner::from_pem(&pem.into(), ISSUER),
            Err(KeyError::Unusable(_))
        ));
    }
}
