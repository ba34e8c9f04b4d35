function value = getOr(options, name, otherwise)
    value = otherwise;
    if isfield(options, name)
        value = options.(name);
    end
end
