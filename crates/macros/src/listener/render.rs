//! Prints the `impl NotificationEndpoint`, or `impl BatchNotificationEndpoint`.
//!
//! All paths begin at `::oslo_messaging` and are public API.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;

use crate::types::shareable;

use super::attribute::Header;
use super::parse::{Block, Handler, Parameter};

/// The implementation for a whole block.
pub(crate) fn listener(header: &Header, block: &Block) -> TokenStream {
    let of = &block.of;
    let generics = shareable(of, &block.generics);
    let (parameters, _, clause) = generics.split_for_impl();
    let priorities = block.handlers.iter().map(|handler| {
        let conditions = &handler.conditions;
        let variants = handler.priorities.iter();
        let variants = variants.map(|variant| format_ident!("{variant}"));
        quote!(#(#conditions)* priorities.extend([#(::oslo_messaging::Priority::#variants),*]);)
    });
    let filter = filter(header);
    let arms = block.handlers.iter().map(|handler| arm(block, handler));
    let (name, given) = if block.is_batch {
        (
            quote!(BatchNotificationEndpoint),
            quote!(notes: &'a [::oslo_messaging::Notification]),
        )
    } else {
        (
            quote!(NotificationEndpoint),
            quote!(note: &'a ::oslo_messaging::Notification),
        )
    };
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, unused_variables, unreachable_patterns)]
        impl #parameters ::oslo_messaging::notify::#name for #of #clause {
            fn priorities(&self) -> ::std::vec::Vec<::oslo_messaging::Priority> {
                let mut priorities = ::std::vec::Vec::new();
                #(#priorities)*
                priorities
            }

            #filter

            fn handle<'a>(
                &'a self,
                priority: ::oslo_messaging::Priority,
                #given,
            ) -> ::oslo_messaging::driver::BoxFuture<'a, ::oslo_messaging::notify::NotificationOutcome> {
                match priority {
                    #(#arms)*
                    _ => ::std::boxed::Box::pin(::core::future::ready(
                        ::oslo_messaging::notify::NotificationOutcome::Handled,
                    )),
                }
            }
        }
    }
}

fn filter(header: &Header) -> TokenStream {
    if header.rules.is_empty() {
        return TokenStream::new();
    }
    let rules = header.rules.iter().map(|(method, key, value)| match key {
        Some(key) => quote!(.#method(#key, #value)?),
        None => quote!(.#method(#value)?),
    });
    quote! {
        fn filter(
            &self,
        ) -> ::oslo_messaging::Result<::core::option::Option<::oslo_messaging::NotificationFilter>> {
            let filter = ::oslo_messaging::NotificationFilter::new() #(#rules)*;
            ::core::result::Result::Ok(::core::option::Option::Some(filter))
        }
    }
}

fn arm(block: &Block, handler: &Handler) -> TokenStream {
    let Handler {
        ident, conditions, ..
    } = handler;
    let of = &block.of;
    let variants = handler.priorities.iter();
    let variants = variants.map(|variant| format_ident!("{variant}"));
    let reads = handler.parameters.iter().filter_map(|parameter| {
        let Parameter::Payload(ty, _) = parameter else {
            return None;
        };
        Some(quote_spanned! {ty.span()=>
            let payload = match note.parse::<#ty>() {
                ::core::result::Result::Ok(payload) => payload,
                ::core::result::Result::Err(fault) => {
                    return ::oslo_messaging::notify::NotificationOutcome::Failed(
                        ::std::format!("the payload cannot be read: {fault}"),
                    );
                }
            };
        })
    });
    let given = handler.parameters.iter().map(|parameter| match parameter {
        Parameter::Context => quote!(note.context()),
        Parameter::Priority => quote!(priority),
        Parameter::Note => quote!(note),
        Parameter::Notes => quote!(notes),
        Parameter::Payload(_, true) => quote!(&payload),
        Parameter::Payload(_, false) => quote!(payload),
    });
    let wait = handler.is_async.then(|| quote!(.await));
    let run = quote_spanned!(ident.span()=> <#of>::#ident(self, #(#given),*)#wait);
    quote! {
        #(#conditions)*
        #(::oslo_messaging::Priority::#variants)|* => ::std::boxed::Box::pin(async move {
            #(#reads)*
            ::oslo_messaging::notify::IntoNotificationOutcome::into_outcome(#run)
        }),
    }
}
