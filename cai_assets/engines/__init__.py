"""Language-model back ends behind one protocol, and the templating they share."""
