//! What the macro says about traits that no client can be made of.

use proc_macro2::TokenStream;
use quote::quote;

use super::expand;

#[track_caller]
fn says(attribute: TokenStream, description: TokenStream, wanted: &[&str]) {
    let printed = expand(attribute, description).to_string();
    for text in wanted {
        assert!(printed.contains(text), "{text:?} is not in {printed}");
    }
    assert_eq!(
        printed.matches("compile_error").count(),
        wanted.len(),
        "{printed}"
    );
}

#[test]
fn only_traits_that_stand_alone_are_taken() {
    says(
        quote!(),
        quote!(
            struct Conductor;
        ),
        &["goes on a trait"],
    );
    says(
        quote!(),
        quote!(
            trait Conductor<T>: Send {
                const LIMIT: u32;
            }
        ),
        &["no type parameters", "stands alone", "has methods only"],
    );
}

#[test]
fn brackets_take_namespace_and_version_once() {
    says(
        quote!(topic = "t"),
        quote!(
            trait A {}
        ),
        &["does not know `topic`"],
    );
    says(
        quote!(version = "1.0", version = "1.1"),
        quote!(
            trait A {}
        ),
        &["`version` is given twice"],
    );
}

#[test]
fn every_fault_of_every_method_is_told_at_once() {
    let description = quote! {
        trait Conductor {
            fn plain(&self);
            async fn no_receiver(host: &str);
            async fn by_value(self);
            async fn generic<T>(&self, value: T);
            async fn with_a_body(&self) {}
            async fn pattern(&self, (a, b): (u8, u8));
            async fn context_late(&self, host: &str, ctx: &Context);
            async fn taken_name(&self, ctx: u8);
            async fn not_optional(&self, #[optional] host: String);
            #[cast]
            async fn cast_with_a_result(&self) -> bool;
            #[cast]
            #[fanout]
            async fn both(&self);
            #[rpc(skip)]
            async fn unknown_option(&self);
            #[rpc(name = "")]
            async fn nameless(&self);
        }
    };
    let wanted = [
        "a remote method is `async`",
        "a remote method takes `&self`",
        "takes `&self`",
        "cannot have type parameters",
        "end this with a semicolon",
        "must be a plain name",
        "the first parameter after `&self`",
        "`ctx` is the context that each method has",
        "only an `Option` can be left out",
        "a cast has no result",
        "one of `#[cast]` and `#[fanout]`",
        "#[rpc] takes `name",
        "name cannot be empty",
    ];
    says(quote!(), description, &wanted);
}

#[test]
fn what_fits_is_printed_under_the_traits_name_and_visibility() {
    let printed = expand(
        quote!(namespace = "n"),
        quote!(
            pub(crate) trait Api {
                #[cast]
                async fn forget(&self, host: &str);
            }
        ),
    );
    let printed = printed.to_string();
    assert!(
        printed.contains("pub (crate) struct ApiClient"),
        "{printed}"
    );
    assert!(!printed.contains("compile_error"), "{printed}");
    assert!(!printed.contains("trait Api"), "{printed}");
}
