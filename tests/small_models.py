"""Models small enough to know everything about: for tests of the solver through the real pipeline."""

from replica.free_entropy import FreeEntropy
from replica.functions import logcosh
from replica.model import Conjugate, Model, Observable, OrderParameter, Parameter


class CurieWeiss(Model):
    """Magnetisation of a mean-field ferromagnet, m = tanh(J m + h): slope J (1 - m^2), critical at J = 1, h = 0."""

    name = "curie_weiss"
    J = Parameter("coupling over temperature", lower=0)
    h = Parameter("field over temperature", default=0.0)
    cap = Parameter("largest magnetisation called physical", default=1.0)
    m = OrderParameter("magnetisation", start=0.5)
    m_hat = Conjugate(m, -1)
    energy = Observable("energy over temperature")

    def free_entropy(self):
        return FreeEntropy(self.couplings, logcosh(self.m_hat), self.J * self.m**2 / 2 + self.h * self.m)

    def observables(self):
        return {self.energy: -self.J * self.m**2 / 2 - self.h * self.m}

    def constraints(self):
        return {"m <= cap": self.cap - self.m}


class UpMagnet(CurieWeiss):
    """The same with a bound, m >= 0; the same kernel, since bounds are data."""

    m = OrderParameter("magnetisation", lower=0, start=0.5)
    m_hat = Conjugate(m, -1)
