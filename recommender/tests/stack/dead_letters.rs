//! Malformed records: kept once, with their reason, and nothing else is lost.

use recommendation_api::records::dead_letter;

use crate::shop::Shop;
use crate::support::{Running, event};

#[tokio::test]
async fn a_malformed_record_becomes_one_dead_letter_whatever_the_number_of_replicas() {
    let shop = Shop::new(2).await;
    let (a, b) = (
        Running::start(shop.replica()).await,
        Running::start(shop.replica()).await,
    );
    let (a, b) = (a.ready().await, b.ready().await);
    let good = event("c", "p", "click").to_string();
    shop.put(Some(0), "c", good.as_bytes()).await;
    shop.put(Some(0), "c", b"not json \xff").await;
    shop.put(Some(1), "k", br#"{"customer_id":"c","event_type":"click"}"#)
        .await;
    shop.put(Some(1), "c", good.as_bytes()).await;
    for replica in [&a, &b] {
        replica.learned(2).await;
        assert_eq!(replica.status().await["deadLetters"], 2);
    }
    let mut letters = shop.dead_letters(2).await;
    letters.sort_by_key(|letter| letter.header(dead_letter::PARTITION).to_owned());
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].value, b"not json \xff");
    assert_eq!(letters[0].header(dead_letter::REASON), "NotJson");
    assert_eq!(letters[0].header(dead_letter::OFFSET), "1");
    assert_eq!(letters[0].header(dead_letter::TOPIC), shop.config.topics.events);
    assert_eq!(letters[1].header(dead_letter::REASON), "MissingField");
    assert!(letters[1].header(dead_letter::MESSAGE).contains("product_id"));
    assert_eq!(letters[1].key.as_deref(), Some(&b"k"[..]));
    a.stop().await;

    // The other one takes over what the first owned; a restart writes none of the old ones again.
    shop.put(Some(0), "c", b"[]").await;
    shop.put(Some(1), "c", b"{}").await;
    assert_eq!(shop.dead_letters(4).await.len(), 4);
    b.stop().await;
    let c = Running::start(shop.replica()).await.ready().await;
    assert_eq!(c.status().await["deadLetters"], 4);
    assert_eq!(shop.dead_letters(4).await.len(), 4);
    c.stop().await;
}

#[tokio::test]
async fn a_letter_too_large_for_its_topic_is_cut_short_and_holds_up_none_after_it() {
    let shop = Shop::new(1).await;
    // Fits the events topic, but not the dead-letter topic with its headers.
    let large = vec![b'x'; 999_900];
    shop.put(Some(0), "c", &large).await;
    shop.put(Some(0), "c", b"not json").await;
    let service = Running::start(shop.replica()).await.ready().await;
    let letters = shop.dead_letters(2).await;
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].header(dead_letter::TRUNCATED), "999900");
    assert!(large.starts_with(&letters[0].value) && !letters[0].value.is_empty());
    assert_eq!(letters[1].value, b"not json");
    service.stop().await;
}
