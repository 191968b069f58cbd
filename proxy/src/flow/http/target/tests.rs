use super::*;
use crate::flow::http::tests::harness::http_destination;

fn joined(base: &str, asked: &str, queries: &str) -> String {
    let mut destination = http_destination("h", 80);
    let (path, query) = base
        .split_once('?')
        .map_or((base, None), |(path, query)| (path, Some(query)));
    path.clone_into(&mut destination.url.path);
    destination.url.query = query.map(str::to_owned);
    destination.queries = Secret::from(queries);
    let asked = asked.parse::<Uri>().expect("a request target");
    Target::new(&destination)
        .join(&asked)
        .expect("a valid target")
        .as_str()
        .to_owned()
}

#[test]
fn an_empty_base_path_changes_nothing() {
    assert_eq!(joined("", "/", ""), "/");
    assert_eq!(joined("", "/b?x=%20", ""), "/b?x=%20");
}

#[test]
fn the_root_becomes_the_base_path_as_it_was_configured() {
    assert_eq!(joined("/a", "/", ""), "/a");
    assert_eq!(joined("/a/", "/", ""), "/a/");
}

#[test]
fn other_paths_follow_the_base_path_without_its_last_slash() {
    assert_eq!(joined("/a", "/b", ""), "/a/b");
    assert_eq!(joined("/a/", "/b", ""), "/a/b");
    assert_eq!(joined("/a/", "//b", ""), "/a//b");
    assert_eq!(joined("/p", "/q", ""), "/p/q");
}

#[test]
fn escapes_and_dots_stay_as_they_are() {
    assert_eq!(joined("/a", "/b%2Fc?x=%20", ""), "/a/b%2Fc?x=%20");
    let odd = "/%2F/%5C/%27/'()/$;,//../+%20/%c3%A4?a=b?c&&=&'";
    assert_eq!(joined("/a", odd, ""), format!("/a{odd}"));
}

#[test]
fn queries_of_url_application_and_configuration_follow_each_other() {
    assert_eq!(
        joined("/a?k=1", "/b?x=2", "y=a%20b&z=3"),
        "/a/b?k=1&x=2&y=a%20b&z=3"
    );
    assert_eq!(joined("", "/?foo=bar2", "foo=bar"), "/?foo=bar2&foo=bar");
    assert_eq!(joined("", "/", "foo=bar"), "/?foo=bar");
}

#[test]
fn a_lone_question_mark_is_kept_where_nothing_is_added() {
    assert_eq!(joined("/a", "/b?", ""), "/a/b?");
    assert_eq!(joined("/a", "/b?", "z=3"), "/a/b?z=3");
}

#[test]
fn absolute_form_counts_like_origin_form() {
    assert_eq!(joined("/a", "http://app/b?c", ""), "/a/b?c");
    assert_eq!(joined("", "http://app", ""), "/");
}

#[test]
fn options_of_the_server_become_options_of_the_base_path() {
    assert_eq!(joined("/a", "*", ""), "/a");
    assert_eq!(joined("", "*", ""), "*");
}
