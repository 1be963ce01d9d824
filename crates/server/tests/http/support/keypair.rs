//! Two key pairs that were made for these tests and are used nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

/// PKCS#8, P-256.
const EC_DER: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfHTU3FZyapGqHLyppOqO/ZRvZN/bdKgEWQvceQJ/mxehRANC\
     AAT9DJnWAdsRNYcBSwixB4lqcuGaprOBqymgrdN3kJgY4Vk0Iw92QK/MYo0g4USoXwtvwINPzh7Dkm0Y0biv+8kJ";
/// PKCS#1, 2048 bits.
const RSA_DER: &str = "MIIEogIBAAKCAQEAn6lHkn4+XnlE9DNS6ZTseJe8WV96SJwk4jNLSXbPHzyazS1wGs09Vi160mZuoumW3IFtYkEf3EMgOhwe\
     /jWumek91V+TAGPJ/HikSB5n1+h+zjmfYInQJrr3zCg+ahjdYpTgYgUqlfsI7KeX/dYKmR/oDMUfr/BhLa8ueH+wZChFYD+q\
     +p19FJnoS2CH7J7g7Jp+wDE1/k5/KlORzvww1V6NHrji/GqC22lRzNosVYQuAufLTehK7HWqRzbE3MTrNSQsQA3EXjxAYQ1M\
     PkOQFKOv4fLLqg0Uqj6OHQwKSY1R26OEFuSFQJgKsj1XD16rlCHmm7603izfJxYfiLzpsQIDAQABAoIBAAD/HG/mllFeiYBK\
     freJaXiiN9FJL+xamL285Lj0NlXWhr/SyzrIZUJ2FuiclFwZ2aPamFoIsbmp+JffdSkQh2lO0NPVwu2s2Cw/44Sb6sZPKiJA\
     e7hte8b2G6+JE8Sm2/p7MLOKUgPGiDDgv4MP1Jg0LQcnxtG0dIk4tfFK5YkZsOrPleVr6e5c+6HlLuQXMlxiQQdyymtnip8E\
     xZv6FGe/aI0K7kEm/zIoueNoeulDz9uaQw1SfAP9qfs053rpnqcordEXC+csD/rSMN1oSBJ6wWZJROe6Ee41j6ckihzMe0De\
     m5YH82owY7AdwoLOP+pcgQi/Zh6P9eoIyTV3R9ECgYEA2EfgOJ2qpkKmEODw6ybE8DGaUgqOudpdMk2WJq/EPRJMF9AT2zgJ\
     f30x0IN5BaFMf3T5E8V+bOHHS+3HASHQW0j+0ki4hLYWaDl/GggRhrPeviJAU2XNYfVXJgsxrU1IuJZ/E+0BBIoVqcf8ME3D\
     2fzPu9e71IXni/F+e653DukCgYEAvPuFFiwgdhRgbXF/jHRv7AyBzzUbIr38fJuIHFRT+EA7S5AeefZZ+TnHcy8NJr0HAjBb\
     ZCZKTSTSn0Ry3umcnzTROPDw7kkyvEieQfvmkrY14+xGzKHj2fW3BX9ZN8FZUAvO8eBESqWL39z88vVS5XxlyjqOVY7DQkCT\
     Y3vXF4kCgYA5V9U7LZJxQnqFPx6hOkY86OnhlqsA28SZ8bg9yZxeFNvX9HNPTCw4gRkUD8emln2RzZG8jEBY3gPZPdHlmvGD\
     QndNibpidWS7fYMVg84hyM7l2m7zraomrsXMcGtbZ4JAbqaCwfPjIDleKofSxsuGoGDzjN9gGaCqmfzPDhLDAQKBgFzHoyQq\
     j9lI0bqJgVREifo6fbRr3yGkYoQOm7lE0WDMsA+99qhsAOoxqrDrBariHMG/We8GOW48SMd2hGraCFHFTX6GE9L4ztbPVBsS\
     /7VBjZ2Tj4LBbCrCzpL9XaDY5O8+jOAE+aIoOk6yoODq/kK6WwL40o5Ao64wI+wwjX35AoGAD4zkeO2A1525OPuipnZd51It\
     F6amLfjpR68FxBfKiz8f7jePmGEdr1ygS61KaDzOyNO3DooaseKhQFPTKFPRnXUO6W/aEI7Gllr6hmqBXTaIw8IvVDMFGSOv\
     13Vt4QnN9pmsRkfQxV1zzAiVnNVg/TiLkkm+9n6dIynVmmf1UvI=";
/// The public half of the RSA key, as people hand it out.
pub const RSA_PUBLIC_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
     MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAn6lHkn4+XnlE9DNS6ZTs\n\
     eJe8WV96SJwk4jNLSXbPHzyazS1wGs09Vi160mZuoumW3IFtYkEf3EMgOhwe/jWu\n\
     mek91V+TAGPJ/HikSB5n1+h+zjmfYInQJrr3zCg+ahjdYpTgYgUqlfsI7KeX/dYK\n\
     mR/oDMUfr/BhLa8ueH+wZChFYD+q+p19FJnoS2CH7J7g7Jp+wDE1/k5/KlORzvww\n\
     1V6NHrji/GqC22lRzNosVYQuAufLTehK7HWqRzbE3MTrNSQsQA3EXjxAYQ1MPkOQ\n\
     FKOv4fLLqg0Uqj6OHQwKSY1R26OEFuSFQJgKsj1XD16rlCHmm7603izfJxYfiLzp\n\
     sQIDAQAB\n\
     -----END PUBLIC KEY-----\n";

const EC_X: &str = "_QyZ1gHbETWHAUsIsQeJanLhmqazgaspoK3Td5CYGOE";
const EC_Y: &str = "WTQjD3ZAr8xijSDhRKhfC2_Ag0_OHsOSbRjRuK_7yQk";
const RSA_N: &str = "n6lHkn4-XnlE9DNS6ZTseJe8WV96SJwk4jNLSXbPHzyazS1wGs09Vi160mZuoumW3IFtYkEf3EMgOhwe_jWumek91V-TAGPJ\
     _HikSB5n1-h-zjmfYInQJrr3zCg-ahjdYpTgYgUqlfsI7KeX_dYKmR_oDMUfr_BhLa8ueH-wZChFYD-q-p19FJnoS2CH7J7g\
     7Jp-wDE1_k5_KlORzvww1V6NHrji_GqC22lRzNosVYQuAufLTehK7HWqRzbE3MTrNSQsQA3EXjxAYQ1MPkOQFKOv4fLLqg0U\
     qj6OHQwKSY1R26OEFuSFQJgKsj1XD16rlCHmm7603izfJxYfiLzpsQ";

pub fn ec() -> EncodingKey {
    EncodingKey::from_ec_der(&STANDARD.decode(EC_DER).unwrap())
}

pub fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_der(&STANDARD.decode(RSA_DER).unwrap())
}

/// The key set with both public keys, under the ids `ec-1` and `rsa-1`.
pub fn jwks() -> Value {
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "ec-1", "alg": "ES256", "use": "sig", "x": EC_X, "y": EC_Y },
        { "kty": "RSA", "kid": "rsa-1", "alg": "RS256", "use": "sig", "e": "AQAB", "n": RSA_N },
    ] })
}
