//! How types of a signature are recognised: by the last name of their path, since a macro knows no more.

use syn::{Generics, Ident, Type, parse_quote};

/// The last name of a path type.
pub(crate) fn last_name(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) if path.qself.is_none() => {
            path.path.segments.last().map(|segment| &segment.ident)
        }
        Type::Group(group) => last_name(&group.elem),
        Type::Paren(paren) => last_name(&paren.elem),
        _ => None,
    }
}

/// Whether it is `&Context`.
pub(crate) fn is_context(ty: &Type) -> bool {
    matches!(ty, Type::Reference(reference)
        if reference.mutability.is_none() && last_name(&reference.elem).is_some_and(|name| name == "Context"))
}

/// The parameters of an impl for `of`, which has to cross threads and live as long as it likes.
pub(crate) fn shareable(of: &Type, generics: &Generics) -> Generics {
    let mut generics = generics.clone();
    if generics.type_params().next().is_some() {
        let clause = generics.make_where_clause();
        clause
            .predicates
            .push(parse_quote!(#of: ::core::marker::Send + ::core::marker::Sync + 'static));
    }
    generics
}
